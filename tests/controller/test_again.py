"""What counts as the same turn again."""

from __future__ import annotations

import pytest

from rlm_local.controller import again
from rlm_local.controller.again import is_again
from rlm_local.grammar import parsed
from rlm_local.types import Cell, Final

FIRST = "from collections import Counter\n\ncounts = Counter(kinds)\nprint(counts)"


@pytest.mark.parametrize(
    "code",
    [
        FIRST,
        "counts = Counter(kinds)\nprint(counts)",
        "from collections import Counter\n# once more\ncounts = Counter( kinds )\nprint(counts)",
    ],
)
def test_layout_comments_and_imports_left_out_make_no_other_cell(code: str) -> None:
    assert is_again(Cell(code), Cell(FIRST))


@pytest.mark.parametrize(
    "code",
    [
        "import math\n" + FIRST,  # what it adds may mend what the first one lacked
        "counts = Counter(kinds)",
        "counts = Counter(kinds)\nprint(counts, 1)",
        "counts = Counter(kinds\nprint(counts)",
    ],
)
def test_whatever_else_differs_does(code: str) -> None:
    assert not is_again(Cell(code), Cell(FIRST))
    assert not is_again(Final("a"), Cell(FIRST))


def test_what_is_no_python_is_compared_as_it_stands() -> None:
    assert is_again(Cell("print("), Cell("print("))
    assert not is_again(Cell("print( "), Cell("print("))


def test_answers_are_compared_as_they_are() -> None:
    assert is_again(Final("a"), Final("a"))
    assert not is_again(Final("a"), Final("b"))


def test_a_long_run_reads_each_cell_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(again, "parsed", lambda code: read.append(code) or parsed(code))
    cells = [Cell(f"once_{number} = {number}") for number in range(500)]
    assert not any(is_again(cell, earlier) for at, cell in enumerate(cells) for earlier in cells[:at])
    assert sorted(read) == sorted(cell.code for cell in cells)
