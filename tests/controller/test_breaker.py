"""What makes the breaker trip, turn by turn; what a run makes of it is in test_node."""

from __future__ import annotations

from rlm_local.controller.breaker import Breaker
from rlm_local.types import Cell, CellResult, CellStatus, Turn, Usage


def turn(printed: str) -> Turn:
    return Turn("", Cell("look()"), Usage(), CellResult(CellStatus.OK, printed))


def test_two_dear_cells_that_print_nothing_new_are_one_too_many() -> None:
    breaker = Breaker()
    assert not breaker.see(turn("7\n"), 0.5)  # it printed something
    assert not breaker.see(turn("7\n"), 0.2)
    assert breaker.see(turn("7\n"), 0.1)
    assert breaker.why == "2 cells in a row took 30% of what this run may spend, and printed nothing new"
    assert not breaker.see(turn("7\n"), 0.2)  # counted anew


def test_what_was_dear_does_not_count_once_something_new_was_printed() -> None:
    breaker = Breaker()
    assert not any(breaker.see(turn(printed), 0.2) for printed in ("7\n", "7\n", "8\n", "7\n8\n", "9\n"))


def test_two_cheap_ones_may_be() -> None:
    breaker = Breaker()
    assert [breaker.see(turn("7\n"), 0.01) for _ in range(4)] == [False, False, False, True]
    assert breaker.why == "3 cells in a row printed nothing new"
