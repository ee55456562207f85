"""What a run may still spend: the one mutable thing in it."""

from __future__ import annotations

import time
from collections.abc import Callable

from rlm_local.limits import Limits
from rlm_local.types import StopReason, Usage


class Budget:
    """Counts turns, sub-calls, tokens and seconds of a whole run against its Limits.

    Tokens are reserved before a call and settled after it, so calls that run side by side cannot
    overspend together. `now` is a monotonic clock in seconds.
    """

    def __init__(self, limits: Limits, *, now: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.usage = Usage()
        self.turns = 0
        self.subcalls = 0
        self._reserved_tokens = 0
        self._now = now
        self._started = now()

    @property
    def elapsed_s(self) -> float:
        return self._now() - self._started

    @property
    def remaining_s(self) -> float:
        """Seconds until the run must end; 0 when it should have."""
        return max(0.0, self.limits.wall_s - self.elapsed_s)

    @property
    def remaining_tokens(self) -> int:
        """Tokens that are neither spent nor promised."""
        return self.limits.max_tokens - self.usage.total_tokens - self._reserved_tokens

    @property
    def remaining_turns(self) -> int:
        return self.limits.max_turns - self.turns

    @property
    def remaining_subcalls(self) -> int:
        return self.limits.max_subcalls - self.subcalls

    def exhausted(self) -> StopReason | None:
        """Return which limit leaves no room for another turn, or None."""
        if self.remaining_s <= 0:
            return StopReason.TIME_LIMIT
        if self.remaining_tokens <= 0:
            return StopReason.TOKEN_LIMIT
        if self.remaining_turns <= 0:
            return StopReason.TURN_LIMIT
        return None

    def reserve(self, tokens: int, *, leaving: int = 0) -> bool:
        """Set `tokens` aside for a call that is about to start; False when that would leave fewer than `leaving`."""
        if tokens + leaving > self.remaining_tokens:
            return False
        self._reserved_tokens += tokens
        return True

    def settle(self, reserved: int, used: Usage) -> None:
        """Give back a reservation and book what the call really used."""
        self._reserved_tokens -= reserved
        self.usage += used
