"""A list, tuple, set or dict that a cell has printed by the name of its variable, which an answer may be given by."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from rlm_local.grammar import parsed
from rlm_local.types import Cell, CellResult, CellStatus, Turn

LONG_CHARS = 600  # an answer of 256 tokens has about 900, fewer where they are numbers
_MOST_BYTES = 4  # of a character, in UTF-8
_BEGINNING = re.compile(r"\w*[(\[{]")  # of a list's, tuple's, set's, dict's or Counter's text


def long_value(turn: Turn) -> str:
    """Return the variable whose value a turn's cell has printed last, where it is too long to be written out again.

    Empty for none. Of long texts nothing is said: those are passages, which are to be read and not to be answered with.
    """
    found = _printed(turn)
    if found is None:
        return ""
    name, line, chars = found
    is_value = _BEGINNING.match(line) and line.endswith(("]", "}", ")"))
    return name if is_value and chars > LONG_CHARS else ""


def plain_value(turns: Sequence[Turn]) -> str:
    """Return the variable whose value the last cell of `turns` has printed last, whole; empty for none.

    It holds names and numbers, and is not empty: passages and documents show themselves otherwise.
    """
    cell = next((turn for turn in reversed(turns) if isinstance(turn.action, Cell)), None)
    found = _printed(cell) if cell is not None else None
    if found is None:
        return ""
    name, line, chars = found
    try:
        value = ast.literal_eval(line) if len(line) == chars else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return name if isinstance(value, list | tuple | set | dict) and value else ""


def _printed(turn: Turn) -> tuple[str, str, int] | None:
    """Return the variable that a turn's cell has printed last, and the line and its length as _last_line() has them."""
    result = turn.result
    if not isinstance(turn.action, Cell) or result is None or result.status is not CellStatus.OK:
        return None
    name = _printed_name(turn.action.code)
    return (name, *_last_line(result)) if name else None


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
