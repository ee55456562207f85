"""What counts as the same turn again."""

from __future__ import annotations

import pytest

from rlm_local.controller import again
from rlm_local.controller.again import has_run
from rlm_local.grammar import parsed
from rlm_local.types import Cell, CellResult, CellStatus, Final, Turn, Usage

FIRST = "from collections import Counter\n\ncounts = Counter(kinds)\nprint(counts)"


def ran(code: str) -> Turn:
    return Turn(code, Cell(code), Usage(), CellResult(CellStatus.OK, "1\n"))


def stopped(code: str) -> Turn:
    return Turn(code, Cell(code), Usage(), CellResult(CellStatus.RAISED, "", error="NameError"))


def said(value: str) -> Turn:
    return Turn(value, Final(value), Usage())


@pytest.mark.parametrize(
    "code",
    [
        FIRST,
        "counts = Counter(kinds)\nprint(counts)",
        "from collections import Counter\n# once more\ncounts = Counter( kinds )\nprint(counts)",
    ],
)
def test_layout_comments_and_imports_left_out_make_no_other_cell(code: str) -> None:
    assert has_run(Cell(code), [ran(FIRST)])


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
    assert not has_run(Cell(code), [ran(FIRST)])
    assert not has_run(Final("a"), [ran(FIRST)])


def test_what_is_no_python_is_compared_as_it_stands() -> None:
    assert has_run(Cell("print("), [stopped("print(")])
    assert not has_run(Cell("print( "), [stopped("print(")])


def test_answers_are_compared_as_they_are() -> None:
    assert has_run(Final("a"), [said("a")])
    assert not has_run(Final("a"), [said("b")])


def test_without_an_import_that_it_has_stopped_at_a_cell_may_come_further() -> None:
    code = "import pandas\nprint(len(rows))"
    assert not has_run(Cell("print(len(rows))"), [stopped(code)])
    assert has_run(Cell("print(len(rows))"), [ran(code)])
    assert has_run(Cell(code), [stopped(code)])


def test_a_cell_that_stopped_may_come_further_when_another_has_run_since() -> None:
    assert not has_run(Cell("print(rows)"), [stopped("print(rows)"), ran("rows = 1")])
    assert has_run(Cell("print(rows)"), [stopped("print(rows)"), stopped("rows = nothing")])
    assert has_run(Cell("print(rows)"), [ran("print(rows)"), ran("rows = 1")])


def test_a_long_run_reads_each_cell_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(again, "parsed", lambda code: read.append(code) or parsed(code))
    codes = [f"once_{number} = {number}" for number in range(500)]
    turns = [ran(code) for code in codes]
    assert not any(has_run(Cell(code), turns[:at]) for at, code in enumerate(codes))
    assert sorted(read) == sorted(codes)
