"""Who may work now: a bounded number at once, a bounded queue, and turns that tenants take."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from types import TracebackType
from typing import Self

from rlm_local.server.problem import Problem
from rlm_local.server.quotas import NOBODY, Caller

_LONGEST_ADVICE_S = 60


class Admission:
    """Hands out places. Where several tenants wait they take turns, each in the order of its own requests.

    slots: at once. queue: that may wait, all tenants together; beyond it one more of each tenant of whom none waits,
    so that one tenant's work never shuts out the others.
    """

    def __init__(self, *, slots: int, queue: int) -> None:
        self.slots = slots
        self.queue = queue
        self.refused = 0
        self._running = 0
        self._waiting: dict[str, deque[Ticket]] = {}  # by tenant; the first of them is next
        self._held: Counter[str] = Counter()  # places and places in the queue, by key
        self._mean_s = 5.0  # that a place was held, the last ones counting most

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def ticket(self, tenant: str, caller: Caller = NOBODY, *, accepted: bool = False) -> Ticket:
        """Return a place, or one in the queue; raises Problem (429) where that is full. It must be closed.

        caller: who may hold no more than his key allows. accepted: the work was taken on before, so no bound matters.
        """
        most = caller.limits.max_runs
        if most is not None and self._held[caller.key] >= most and not accepted:
            self.refused += 1
            wait_s = self._advice_s(0)
            said = f"this key has {self._held[caller.key]} runs under way, as many as it may; try again in {wait_s} s"
            raise Problem(429, said, code="max_runs", retry_after_s=wait_s)
        ticket = Ticket(self, tenant, caller.key)
        if self._running < self.slots:
            self._begin(ticket)
        elif accepted or self.waiting < self.queue or (self.queue and tenant not in self._waiting):
            self._waiting.setdefault(tenant, deque()).append(ticket)
        else:
            self.refused += 1
            wait_s = self._advice_s(self.waiting)
            raise Problem(
                429,
                f"{self._running} requests are answered and {self.waiting} wait, as many as this server takes; "
                f"try again in {wait_s} s",
                code="queue_full",
                retry_after_s=wait_s,
            )
        self._held[ticket.key] += 1
        return ticket

    def _advice_s(self, before: int) -> int:
        """Return when to come again, in seconds, where so many wait before."""
        return min(_LONGEST_ADVICE_S, max(1, round(self._mean_s * (before + 1) / self.slots)))

    def _begin(self, ticket: Ticket) -> None:
        self._running += 1
        ticket.began_at = time.monotonic()
        ticket.turn.set_result(None)

    def _leave(self, ticket: Ticket) -> None:
        self._held[ticket.key] -= 1
        if not self._held[ticket.key]:
            del self._held[ticket.key]
        if ticket.began_at is None:
            mine = self._waiting[ticket.tenant]
            mine.remove(ticket)
            if not mine:
                del self._waiting[ticket.tenant]
            ticket.turn.cancel()
            return
        self._running -= 1
        self._mean_s += 0.2 * (time.monotonic() - ticket.began_at - self._mean_s)
        if self._waiting:
            tenant = next(iter(self._waiting))
            mine = self._waiting.pop(tenant)
            following = mine.popleft()
            if mine:
                self._waiting[tenant] = mine  # behind all others
            self._begin(following)


class Ticket:
    """A place to work, once its turn has come: `async with`, or wait for `turn`, and close() it."""

    def __init__(self, admission: Admission, tenant: str, key: str = "") -> None:
        self.tenant = tenant
        self.key = key
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began_at: float | None = None
        self._admission = admission
        self._closed = False

    def close(self) -> None:
        """Give the place to whoever is next. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._admission._leave(self)  # noqa: SLF001 the two are one thing

    async def __aenter__(self) -> Self:
        try:
            await asyncio.shield(self.turn)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
