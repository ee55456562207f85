"""When an engine that crashed may be started again."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_S, MOST_S = 5.0, 300.0


class Backoff:
    """The first restart after an answer comes at once; each further one waits twice as long as the one before.

    So a single crash costs its callers one start, an engine that dies of each request does not hold the machine
    with loading, and one whose cause has gone, such as memory that another program took, is back by itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._restarts = 0  # since the last answer
        self._not_before = 0.0

    @property
    def wait_s(self) -> float:
        """Return how long it is until the next restart; 0 when it may be now."""
        return max(self._not_before - self._clock(), 0.0) if self._restarts else 0.0

    def restarted(self) -> None:
        """Note a restart, whether it came to something or not."""
        self._not_before = self._clock() + min(FIRST_S * 2**self._restarts, MOST_S)
        self._restarts = min(self._restarts + 1, 16)  # beyond it 2**n is MOST_S many times over

    def answered(self) -> None:
        self._restarts = 0
