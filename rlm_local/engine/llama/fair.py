"""Whose turn it is: every run gets the same share of the work, and within a run the deepest call goes first."""

from __future__ import annotations

from typing import TypeAlias

from rlm_local.engine.llama.request import Request

Turn: TypeAlias = tuple[int, float, int, int]  # smaller goes first


class FairOrder:
    """Counts what each run was given, and orders requests by it.

    A run is a cache scope. Priority goes before all. Then the run that was given the least; one that was away
    begins where the least served of the others stands, so that nobody saves up. Then depth, the deepest first:
    a parent stands still until its child has answered. Then arrival.
    """

    def __init__(self) -> None:
        self._given: dict[str, float] = {}  # tokens computed for the runs that have requests
        self._requests: dict[str, int] = {}

    def joined(self, run: str) -> None:
        """Note a new request of a run."""
        if run not in self._given:
            self._given[run] = min(self._given.values(), default=0.0)
        self._requests[run] = self._requests.get(run, 0) + 1

    def left(self, run: str) -> None:
        """Note that a request of a run has ended."""
        self._requests[run] -= 1
        if not self._requests[run]:
            del self._requests[run], self._given[run]

    def gave(self, run: str, tokens: int) -> None:
        """Note tokens that were computed for a run."""
        self._given[run] += tokens

    def turn(self, request: Request) -> Turn:
        """Return the key to sort by; it holds until the next gave()."""
        job = request.job
        return (job.priority, self._given[job.scope], -job.depth, request.arrival)
