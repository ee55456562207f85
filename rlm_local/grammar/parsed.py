"""Python that a model wrote, as a tree."""

from __future__ import annotations

import ast
import warnings


def parsed(code: str) -> ast.Module | None:
    """Return the tree of a cell's code; None for what is no Python, or too deep to tell.

    What Python has to say about it, as of an escape that is none, is for nobody on our side of the jail.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
