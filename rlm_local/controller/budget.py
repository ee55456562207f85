"""What a run may still spend: the one mutable thing in it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlm_local.limits import Limits
from rlm_local.types import StopReason, Usage


@dataclass(frozen=True, slots=True)
class _Room:
    total_tokens: int
    prompt_tokens: int
    completion_tokens: int
    cost: float  # infinite without a bound


class Budget:
    """Counts turns, sub-calls, tokens and seconds of one node against its Limits, and of its tree against all above.

    Tokens and sub-calls are reserved before a call and settled after it, at every level or at none, so calls that
    run side by side cannot overspend together. `now` is a monotonic clock in seconds; a child has its parent's.
    """

    def __init__(
        self, limits: Limits, *, parent: Budget | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self.usage = Usage()  # of the node and all below it
        self.turns = 0  # of the node alone
        self.subcalls = 0  # of the node and all below it
        self.remembered = 0  # requests of the same that were answered from memory
        self.kept = Usage()  # what calls and children may not touch, so that this node can still answer
        self.parent = parent
        self.reserved = Usage()  # for calls that are under way
        self.now: Callable[[], float] = parent.now if parent else now
        self._started = self.now()
        # Held by each request to the engine: at most `max_concurrency` in the whole tree.
        self.slot: asyncio.Semaphore = parent.slot if parent else asyncio.Semaphore(limits.max_concurrency)

    @property
    def elapsed_s(self) -> float:
        return self.now() - self._started

    @property
    def remaining_s(self) -> float:
        """Seconds until the node must end; 0 when it should have."""
        return max(0.0, self.limits.wall_s - self.elapsed_s)

    @property
    def remaining_tokens(self) -> int:
        """Tokens of any kind that are neither spent nor promised, here and above."""
        return min(self._room(level).total_tokens for level in self._line())

    @property
    def remaining_completion_tokens(self) -> int:
        """Of these, the ones that may be written."""
        return min(self._room(level).completion_tokens for level in self._line())

    @property
    def remaining_cost(self) -> float:
        """Money that is neither spent nor promised, here and above; infinite without a bound."""
        return min(self._room(level).cost for level in self._line())

    @property
    def remaining_turns(self) -> int:
        return self.limits.max_turns - self.turns

    @property
    def remaining_subcalls(self) -> int:
        return min(level.limits.max_subcalls - level.subcalls for level in self._line())

    def exhausted(self) -> StopReason | None:
        """Return which limit leaves no room for another turn, or None."""
        if self.remaining_s <= 0:
            return StopReason.TIME_LIMIT
        if self.remaining_tokens <= 0:
            return StopReason.TOKEN_LIMIT
        if stop := self._lacking(Usage(1, 0, 1), keeping=False):
            return stop
        if self.remaining_turns <= 0:
            return StopReason.TURN_LIMIT
        return None

    def reserve_turn(self, prompt_tokens: int, completion_tokens: int) -> Usage | StopReason:
        """Set tokens aside for a turn of this node that is about to start; or return the limit that has too few."""
        return self._reserve(Usage(prompt_tokens, 0, completion_tokens), keeping=False)

    def reserve_call(self, prompt_tokens: int, completion_tokens: int) -> Usage | StopReason | None:
        """Set tokens aside for a sub-call, and count it.

        None when no sub-call is left, and the limit when it would leave a node above too little to answer.
        """
        if self.remaining_subcalls <= 0:
            return None
        reserved = self._reserve(Usage(prompt_tokens, 0, completion_tokens), keeping=True)
        if isinstance(reserved, Usage):
            for level in self._line():
                level.subcalls += 1
        return reserved

    def settle(self, reserved: Usage, used: Usage) -> None:
        """Give back a reservation and book what the call really used."""
        for level in self._line():
            level.reserved = level.reserved - reserved
            level.usage += used

    def book(self, subcalls: int, used: Usage, remembered: int = 0) -> None:
        """Book what was spent without a reservation: in the past of this run."""
        for level in self._line():
            level.subcalls += subcalls
            level.usage += used
            level.remembered += remembered

    def left_for_calls(self) -> int:
        """Return the tokens that a sub-call may still take."""
        return max(0, min(self._room(level).total_tokens - level.kept.total_tokens for level in self._line()))

    def left_to_write(self) -> int:
        """Return how many of these a sub-call's reply may have."""
        left = (self._room(level).completion_tokens - level.kept.completion_tokens for level in self._line())
        return max(0, min(left))

    def cost(self, used: Usage) -> float:
        """Return what tokens cost; 0 without a price list."""
        price = self.limits.price
        return price.cost(used.prompt_tokens, used.cached_tokens, used.completion_tokens) if price else 0.0

    def cost_left_for_calls(self) -> float:
        """Return the money that a sub-call may still cost; infinite without a bound."""
        return max(0.0, min(self._room(level).cost - level.cost(level.kept) for level in self._line()))

    def _reserve(self, wanted: Usage, *, keeping: bool) -> Usage | StopReason:
        if stop := self._lacking(wanted, keeping=keeping):
            return stop
        for level in self._line():
            level.reserved += wanted
        return wanted

    def _lacking(self, wanted: Usage, *, keeping: bool) -> StopReason | None:
        """Return the limit that has no room for so much, here or above."""
        for level in self._line():
            room = self._room(level)
            kept = level.kept if keeping or level is not self else Usage()
            if (
                wanted.total_tokens + kept.total_tokens > room.total_tokens
                or wanted.prompt_tokens > room.prompt_tokens
                or wanted.completion_tokens + kept.completion_tokens > room.completion_tokens
            ):
                return StopReason.TOKEN_LIMIT
            if self.cost(wanted + kept) > room.cost:
                return StopReason.COST_LIMIT
        return None

    def _line(self) -> Iterator[Budget]:
        level: Budget | None = self
        while level is not None:
            yield level
            level = level.parent

    @staticmethod
    def _room(level: Budget) -> _Room:
        """Return what of one level's tokens is neither spent nor promised."""
        limits, gone = level.limits, level.usage + level.reserved
        total = limits.max_tokens - gone.total_tokens
        prompt, completion = limits.max_prompt_tokens, limits.max_completion_tokens
        return _Room(
            total,
            total if prompt is None else prompt - gone.prompt_tokens,
            total if completion is None else completion - gone.completion_tokens,
            math.inf if limits.max_cost is None else limits.max_cost - level.cost(gone),
        )
