"""A value that a cell has printed and that is too long to be written out again as an answer."""

from __future__ import annotations

import ast

from rlm_local.grammar import parsed
from rlm_local.types import Cell, CellStatus, Turn

LONG_CHARS = 600  # an answer of 256 tokens has about 900, fewer where they are numbers


def long_value(turn: Turn) -> str:
    """Return the variable whose long list, tuple, set or dict a turn's cell has printed last; empty for none.

    Of long texts nothing is said: those are passages, which are to be read and not to be answered with.
    """
    result = turn.result
    if not isinstance(turn.action, Cell) or result is None or result.status is not CellStatus.OK:
        return ""
    last_line = (result.stdout_tail or result.stdout).rstrip("\n").rpartition("\n")[2]
    is_long = bool(result.truncated_bytes) or len(last_line) > LONG_CHARS
    name = _printed_name(turn.action.code)
    return name if name and is_long and last_line.endswith(("]", "}", ")")) else ""


def _printed_name(code: str) -> str:
    """Return the name that the last statement prints, where it is `print(name)`."""
    tree = parsed(code)
    match tree.body[-1:] if tree else []:
        case [ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=[ast.Name(id=name)], keywords=[]))]:
            return name
        case _:
            return ""
