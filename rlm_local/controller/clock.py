"""The seconds of a run, counted through its interruptions."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Counts from 0. While a run goes through its past, the past's times are told; then the clock goes on from there.

    now: a monotonic clock in seconds.
    """

    def __init__(self, *, past_s: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        """past_s: how long the run took before it was interrupted; None for a run without a past."""
        self._now = now
        self._told_s = 0.0
        self._past_s = past_s or 0.0
        self._live_since = now() if past_s is None else None
        self._waiting: list[Callable[[], None]] = []

    @property
    def is_live(self) -> bool:
        return self._live_since is not None

    def elapsed_s(self) -> float:
        return self._told_s if self._live_since is None else self._past_s + self._now() - self._live_since

    def tell(self, at_s: float) -> None:
        """Set the time of the past that the run has come to. Nothing once it is live."""
        self._told_s = max(self._told_s, at_s)

    def go_live(self) -> None:
        """From now on time passes. Safe to call again."""
        if self._live_since is None:
            self._live_since = self._now()
            for call in self._waiting:
                call()
            self._waiting.clear()

    def when_live(self, call: Callable[[], None]) -> None:
        """Call once time passes; at once when it does."""
        if self.is_live:
            call()
        else:
            self._waiting.append(call)
