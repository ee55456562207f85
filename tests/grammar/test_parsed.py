"""Code of a model is read without a word to whoever runs us."""

from __future__ import annotations

import ast
import warnings

import pytest

from rlm_local.grammar import parsed


def test_code_is_read_without_a_warning_about_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = parsed(r'print("\d" is "a")')
    assert isinstance(tree, ast.Module)
    assert len(tree.body) == 1


@pytest.mark.parametrize("code", ["print(", "\0", "(" * 10_000, "-" * 100_000 + "1"])
def test_what_is_no_python_or_too_deep_is_no_tree(code: str) -> None:
    assert parsed(code) is None
