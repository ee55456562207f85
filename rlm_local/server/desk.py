"""The one place where work is taken on: a runtime, who may use it when, and what is under way."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rlm_local.cards import Card
from rlm_local.controller import Past
from rlm_local.errors import ConfigError
from rlm_local.events import Abandoned, Event, ItemsReplied, Replied, RunEnded
from rlm_local.limits import Limits, priced
from rlm_local.ports import Recorder
from rlm_local.runtime import Runtime
from rlm_local.server.admission import Admission, Ticket
from rlm_local.server.metrics import Metrics
from rlm_local.server.problem import RESTART_S, Problem, problem_of
from rlm_local.server.quotas import Quotas
from rlm_local.server.settings import Settings
from rlm_local.server.wire import ended
from rlm_local.types import Answer, Request, Sampling, Usage

T = TypeVar("T")

DIRECT = ":direct"  # behind a model's name: the engine itself, no run


class Desk:
    """Takes work while a runtime is there, and ends it when the server stops."""

    def __init__(self, card: Card, settings: Settings, quotas: Quotas | None = None) -> None:
        """quotas: where what keys spend is booked."""
        self.card = card
        self.settings = settings
        self.runs = Admission(slots=settings.max_runs, queue=settings.max_queue)
        self.direct = Admission(slots=settings.max_direct, queue=settings.max_queue)
        self.metrics = Metrics()
        self.asked_to_stop = asyncio.Event()
        self.quotas = quotas
        self._runtime: Runtime | None = None
        self._is_stopping = False
        self._under_way: set[asyncio.Future[Any]] = set()
        self._usage: defaultdict[str, Usage] = defaultdict(Usage)  # of runs, by tenant

    def usage_of(self, tenant: str) -> Usage:
        """Return what a tenant's runs have taken since the process began, those that ended in an answer."""
        return self._usage.get(tenant, Usage())

    @property
    def state(self) -> str:
        if self._is_stopping:
            return "stopping"
        return "loading" if self._runtime is None else "ready"

    @property
    def runtime(self) -> Runtime:
        """Raises Problem (503) while the model is loaded, and once the server stops."""
        if self._runtime is None or self._is_stopping:
            raise Problem(503, f"the server is {self.state}", code=self.state, retry_after_s=RESTART_S)
        return self._runtime

    def open(self, runtime: Runtime) -> None:
        """Take work from now on."""
        self._runtime = runtime

    def is_direct(self, model: str) -> bool:
        """Tell whether a request's model is the engine itself. Raises Problem (404) for one that is not served."""
        name = model.strip().lower()
        if name.removesuffix(DIRECT) in (self.card.name, *self.card.aliases):
            return name.endswith(DIRECT)
        served = f"{self.card.name} and {self.card.name}{DIRECT}"
        raise Problem(
            404, f"the model {model[:100]!r} is not served here, only {served}", code="model_not_found", param="model"
        )

    def check_cost(self, limits: Limits) -> None:
        """Raise Problem (400) for a bound on what tokens cost, where the served model has no price list."""
        try:
            priced(limits, self.card.price, self.card.name)
        except ConfigError as error:
            raise problem_of(error) from error

    async def answer(
        self,
        ticket: Ticket,
        request: Callable[[], Awaitable[Request]],
        recorder: Recorder,
        sampling: Sampling | None,
    ) -> Answer:
        """Answer a request once its turn has come; for errors see Runtime.ask and under_way.

        request: makes it, not before: the documents of what waits are not held in memory.
        """

        async def work() -> Answer:
            async with ticket:
                return await self.ask(ticket, await request(), recorder, sampling)

        try:
            return await self.under_way(work())
        finally:
            ticket.close()  # work that is cancelled before its first step has not done it

    async def ask(
        self,
        ticket: Ticket,
        request: Request,
        recorder: Recorder,
        sampling: Sampling | None = None,
        past: Past | None = None,
        *,
        booked: int = 0,
    ) -> Answer:
        """Answer a request now, in its tenant's scope, and count it; what it took is booked on its key.

        past: what is known of its run. booked: the tokens of that which its key has paid for.
        """
        spending = _Spending(recorder)
        run = self.runtime.ask(request, spending, scope=scope_of(ticket.tenant), sampling=sampling, past=past)
        try:
            answer = await self.metrics.counted(run)
            self._usage[ticket.tenant] += answer.usage
            return answer
        finally:
            if self.quotas is not None:
                if spending.in_all is not None:
                    self.quotas.book(ticket.key, spending.in_all - booked)
                elif not self._is_stopping:  # it has failed, and does not go on; what is parked tells all at its end
                    self.quotas.book(ticket.key, spending.here)

    async def under_way(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work that ends when we are cancelled, or, with a Problem (503), when the server stops."""
        task = asyncio.create_task(work)
        self._enlist(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._is_stopping:
                raise Problem(503, "the server stopped before the answer was there", code="stopping") from None
            raise
        finally:
            await ended(task)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Count a block as under way: when the server stops, it has the time that is given to what is."""
        block: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enlist(block)
        try:
            yield
        finally:
            block.cancel()

    def _enlist(self, work: asyncio.Future[Any]) -> None:
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)

    async def stop(self, drain_s: float) -> None:
        """Take no more work, give what is under way so long, and end the rest. Returns when all of it has ended."""
        self._is_stopping = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=drain_s)
        await ended(*self._under_way)


class _Spending:
    """A Recorder that notes what a run takes, however it ends."""

    def __init__(self, recorder: Recorder) -> None:
        self.here = 0  # tokens of this attempt, as its requests end
        self.in_all: int | None = None  # those of all attempts, once the run tells its end
        self._recorder = recorder

    def write(self, event: Event) -> None:
        self._recorder.write(event)
        match event:
            case Replied(reply=reply):
                self.here += reply.usage.total_tokens
            case ItemsReplied(replies=items):
                self.here += sum(item.reply.usage.total_tokens for item in items)
            case Abandoned(usage=usage):
                self.here += usage.total_tokens
            case RunEnded(answer=answer):
                self.in_all = answer.usage.total_tokens
            case _:
                pass


def scope_of(tenant: str) -> str:
    """Return the name under which the engine keeps what it has computed for a tenant."""
    return hashlib.sha256(f"rlm-local tenant {tenant}".encode()).hexdigest()[:32]
