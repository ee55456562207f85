"""One cell on one jail: its frames, its sub-calls, its clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rlm_local.jail.channel import JailEndedError
from rlm_local.jail.messages import SPANS_PER_CELL, Done, Query, Recurse, Spans, parse
from rlm_local.jail.process import Jail
from rlm_local.jail.wire import WireError
from rlm_local.limits import Limits
from rlm_local.ports import BadCall, QueryHandler, RecurseHandler
from rlm_local.types import CallKind, JsonValue, Page, Span, SubCall, Usage, page_of

GRACE_S = 2.0  # between the first interrupt and the kill
_INTERRUPT_EVERY_S = 0.4  # code may catch one, or be in the middle of a send
_TICK_S = 0.25  # how often the processor time is read
_IN_FLIGHT = 16  # queries at once; our worker stays at 8
_CALLS_PER_CELL = 1_000  # texts, or more where the run allows more; beyond it the host keeps nothing of them
_TEXT_CHARS_PER_CELL = 16 << 20  # or as much as two copies of the documents, where that is more
_FRAMES_PER_CELL = 20_000  # a search or a sub-call each; our worker stays far below


class Stopwatch:
    """Counts seconds while it is not held. Held while the cell waits for the engine."""

    def __init__(self) -> None:
        self._counted = 0.0
        self._since: float | None = time.monotonic()

    def elapsed(self) -> float:
        return self._counted + (0.0 if self._since is None else time.monotonic() - self._since)

    def hold(self) -> None:
        self._counted, self._since = self.elapsed(), None

    def release(self) -> None:
        self._since = self._since or time.monotonic()


@dataclass(slots=True)
class Observed:
    """What the host saw of one cell, as it happens."""

    spans: list[Span] = field(default_factory=list)
    subcalls: list[SubCall] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    done: Done | None = None  # None: the jail died, or broke the protocol
    broken: str = ""  # what it sent that it may not
    interrupted: bool = False
    killed: bool = False  # by us, because it did not heed the interrupt


@dataclass(frozen=True, slots=True)
class Job:
    """One cell to run."""

    cell_id: int
    code: str
    wall_s: float
    limits: Limits
    document_chars: Sequence[int]
    query: QueryHandler
    facts: Mapping[str, JsonValue]
    recurse: RecurseHandler | None = None


def _reply(subcall: SubCall) -> dict[str, object]:
    return {"value": subcall.result, "refused": subcall.refused}


class CellRun:
    """Runs one job. After run() the jail is either idle again, or has ended (observed.done is None)."""

    def __init__(self, jail: Jail, job: Job) -> None:
        self._jail = jail
        self._job = job
        self._clock = Stopwatch()
        self._queries: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last_query = 0
        self._asking = 0  # queries that are being answered now
        self._asked = 0
        self._asked_chars = 0
        self.observed = Observed()

    async def run(self) -> Observed:
        """Raises whatever the query handler raises; the jail is then in the middle of a cell and must be ended."""
        self._jail.resume()
        pump = asyncio.ensure_future(self._pump())
        try:
            await self._watch(pump)
            pump.result()
        except JailEndedError:
            pass
        except WireError as error:
            self.observed.broken = str(error)
            self._jail.kill()
        finally:
            for task in (pump, *self._queries):
                task.cancel()
            await asyncio.gather(pump, *self._queries, return_exceptions=True)
            self._failed.cancel()
            self._jail.pause()
        return self.observed

    async def _watch(self, pump: asyncio.Future[None]) -> None:
        """Wait for the pump, and keep the cell to its limits meanwhile."""
        limits, wall_s = self._job.limits, self._job.wall_s
        cpu_before = self._jail.cpu_s()
        first_interrupt = 0.0
        while True:
            left = wall_s - self._clock.elapsed()
            wait_s = _INTERRUPT_EVERY_S if first_interrupt else min(_TICK_S, max(left, 0.001))
            await asyncio.wait({pump, self._failed}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            if pump.done():
                return
            now = time.monotonic()
            if first_interrupt and now - first_interrupt >= GRACE_S:
                self.observed.killed = True
                self._jail.kill()
            elif first_interrupt or left <= 0 or self._jail.cpu_s() - cpu_before > limits.cell_cpu_s:
                first_interrupt = first_interrupt or now
                self.observed.interrupted = True
                self._jail.interrupt()

    async def _pump(self) -> None:
        """Send the cell, then take in frames until it is done."""
        job = self._job
        await self._jail.send({"op": "exec", "cell_id": job.cell_id, "code": job.code, "facts": dict(job.facts)})
        for _ in range(_FRAMES_PER_CELL):
            frame = await self._jail.receive()
            message = parse(
                frame, document_chars=self._job.document_chars, output_bytes=self._job.limits.cell_output_bytes
            )
            if isinstance(message, Query | Recurse):
                self._take_query(message)
            elif message.cell_id != self._job.cell_id:
                # A thread of an earlier cell may still search; nothing else outlives its cell.
                if isinstance(message, Done) or message.cell_id > self._job.cell_id:
                    raise WireError(f"cell {message.cell_id} spoke while cell {self._job.cell_id} was running")
            elif isinstance(message, Spans):
                self.observed.spans.extend(message.spans)
                if len(self.observed.spans) > SPANS_PER_CELL:
                    raise WireError(f"more than {SPANS_PER_CELL} spans in one cell")
            else:
                self.observed.done = message
                return
        raise WireError(f"more than {_FRAMES_PER_CELL} frames in one cell")

    def _take_query(self, query: Query | Recurse) -> None:
        if query.id <= self._last_query or query.cell_id > self._job.cell_id:
            raise WireError(f"query {query.id} of cell {query.cell_id} after query {self._last_query}")
        self._last_query = query.id
        if len(self._queries) >= _IN_FLIGHT:
            raise WireError(f"more than {_IN_FLIGHT} queries at once")
        if query.cell_id < self._job.cell_id:
            return  # its cell is over, and with it whoever waited
        task = asyncio.ensure_future(self._answer(query))
        self._queries.add(task)
        task.add_done_callback(self._answered)

    async def _answer(self, query: Query | Recurse) -> None:
        reply: dict[str, object] = {"op": "result", "id": query.id, "problem": "", "replies": []}
        texts = query.texts if isinstance(query, Query) else [ask.question + ask.text for ask in query.asks]
        self._asked += len(texts)
        self._asked_chars += sum(map(len, texts))
        most = max(_CALLS_PER_CELL, 4 * self._job.limits.max_subcalls)
        most_chars = max(_TEXT_CHARS_PER_CELL, 2 * sum(self._job.document_chars))
        if self._asked > most or self._asked_chars > most_chars:
            reply["problem"] = f"one cell may ask for {most:,} texts of {most_chars:,} characters, not more"
        else:
            try:
                with self._held_clock():
                    subcalls = await self._ask(query)
            except BadCall as bad:
                reply["problem"] = str(bad)
            else:
                reply["replies"] = [_reply(subcall) for subcall in subcalls]
                if isinstance(query, Query) and query.form.kind is not CallKind.QUERY:
                    self.observed.pages.append(page_of(query.texts, query.form, subcalls))
                else:
                    self.observed.subcalls.extend(subcalls)
        await self._jail.send(reply)

    async def _ask(self, query: Query | Recurse) -> Sequence[SubCall]:
        if isinstance(query, Query):
            return await self._job.query(query.texts, query.form)
        if self._job.recurse is not None:
            return await self._job.recurse(query.asks)
        refusal = "rlm_query has nobody to answer it here; use llm_query"
        return [SubCall(ask.question, "", Usage(), refused=refusal) for ask in query.asks]

    @contextmanager
    def _held_clock(self) -> Iterator[None]:
        """Stop the cell's clock while somebody else works for it. Taking in the reply is the cell's own time."""
        self._asking += 1
        self._clock.hold()
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._clock.release()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._queries.discard(task)
        if task.cancelled() or (error := task.exception()) is None or isinstance(error, JailEndedError):
            return
        if not self._failed.done():
            self._failed.set_exception(error)
