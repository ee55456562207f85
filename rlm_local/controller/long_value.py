"""A value that a cell has printed and that is too long to be written out again as an answer."""

from __future__ import annotations

import ast
import re

from rlm_local.grammar import parsed
from rlm_local.types import Cell, CellResult, CellStatus, Turn

LONG_CHARS = 600  # an answer of 256 tokens has about 900, fewer where they are numbers
_MOST_BYTES = 4  # of a character, in UTF-8
_BEGINNING = re.compile(r"\w*[(\[{]")  # of a list's, tuple's, set's, dict's or Counter's text


def long_value(turn: Turn) -> str:
    """Return the variable whose long list, tuple, set or dict a turn's cell has printed last; empty for none.

    Of long texts nothing is said: those are passages, which are to be read and not to be answered with.
    """
    result = turn.result
    if not isinstance(turn.action, Cell) or result is None or result.status is not CellStatus.OK:
        return ""
    line, chars = _last_line(result)
    is_value = _BEGINNING.match(line) and line.endswith(("]", "}", ")"))
    return _printed_name(turn.action.code) if is_value and chars > LONG_CHARS else ""


def _last_line(result: CellResult) -> tuple[str, int]:
    """Return the last line that was printed, as far as it is known, and how long it is, if not longer."""
    tail = (result.stdout_tail or result.stdout).rstrip("\n")
    before, _, line = tail.rpartition("\n")
    if before or not result.truncated_bytes:
        return line, len(line)
    beginning = result.stdout.rpartition("\n")[2]
    return beginning + line, len(beginning) + result.truncated_bytes // _MOST_BYTES + len(line)


def _printed_name(code: str) -> str:
    """Return the name that the last statement prints, where it is `print(name)`."""
    tree = parsed(code)
    match tree.body[-1:] if tree else []:
        case [ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=[ast.Name(id=name)], keywords=[]))]:
            return name
        case _:
            return ""
