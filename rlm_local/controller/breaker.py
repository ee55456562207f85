"""The circuit breaker: a run that goes round in a circle is told so once, and then ends."""

from __future__ import annotations

from rlm_local.types import CellResult, Turn

SAME_ERRORS = 3  # in a row
SAME_OUTPUTS = 3  # cells in a row that print nothing that was not printed before
SAME_CALLS = 2  # cells in a row that ask sub-models only what was asked before
DEAR_OUTPUTS = 2  # cells in a row that print nothing new, and have cost more than
DEAR_SHARE = 0.25  # of the tokens or sub-calls of the node


class Breaker:
    """Watches the cells of one node. That a cell is an earlier one, word for word, is the Judge's to see.

    trips: how often it has tripped. why: the last time, as a sentence without a full stop.
    """

    def __init__(self) -> None:
        self.trips = 0
        self.why = ""
        self._printed: set[str] = set()
        self._asked: set[str] = set()
        self._error = ""
        self._errors = self._outputs = self._calls = 0
        self._cost = 0.0  # of the cells in a row that printed nothing new

    def see(self, turn: Turn, cost: float) -> bool:
        """Take in a turn that did not end the run; say whether it makes the breaker trip.

        cost: what the turn took of the node's tokens or sub-calls, as a share of them, whichever is the larger.
        """
        if turn.result is None:
            return False
        self._count(turn.result, cost)
        if self._errors >= SAME_ERRORS:
            self.why = f"the same error came {self._errors} times: {self._error[:200]}"
        elif self._calls >= SAME_CALLS:
            self.why = f"{self._calls} cells in a row asked sub-models only what was asked before"
        elif self._outputs >= SAME_OUTPUTS:
            self.why = f"{self._outputs} cells in a row printed nothing new"
        elif self._outputs >= DEAR_OUTPUTS and self._cost > DEAR_SHARE:
            spent = f"{self._cost:.0%} of what this run may spend"
            self.why = f"{self._outputs} cells in a row took {spent}, and printed nothing new"
        else:
            return False
        self.trips += 1
        self._errors = self._outputs = self._calls = 0
        self._cost = 0.0
        return True

    def _count(self, result: CellResult, cost: float) -> None:
        error = result.error.rstrip("\n").rpartition("\n")[2]
        self._errors = self._errors + 1 if error and error == self._error else int(bool(error))
        self._error = error
        lines = {line.strip() for line in (result.stdout + "\n" + result.stdout_tail).split("\n")} - {""}
        # An error is news too, the first time.
        is_new = not lines <= self._printed or (bool(error) and self._errors == 1)
        self._printed |= lines
        self._outputs = 0 if is_new else self._outputs + 1
        self._cost = 0.0 if is_new else self._cost + cost
        prompts = {call.prompt for call in result.subcalls if not call.refused}
        if prompts:
            self._calls = self._calls + 1 if prompts <= self._asked else 0
        self._asked |= prompts
