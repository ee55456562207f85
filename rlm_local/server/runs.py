"""Runs that outlive their caller, and the server: rows in SQLite, their events in trace files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

from rlm_local.errors import RlmError, RunDiffers
from rlm_local.events import Event
from rlm_local.server.admission import Ticket
from rlm_local.server.answers import kept_answer
from rlm_local.server.attempt import Left, read_left
from rlm_local.server.database import Database
from rlm_local.server.desk import Desk
from rlm_local.server.files import Files
from rlm_local.server.follow import TraceReader, event_name
from rlm_local.server.guard import FAILED
from rlm_local.server.logs import log
from rlm_local.server.problem import Problem, problem_body, problem_of
from rlm_local.server.quotas import NOBODY, Caller
from rlm_local.server.run_request import RunBody
from rlm_local.server.run_rows import COLUMNS, Run, RunState, run_of
from rlm_local.server.wire import STILL_THERE, STILL_THERE_S, encoded, event
from rlm_local.trace import TraceWriter
from rlm_local.types import Answer, JsonObject, Request

_EVENT_ID = re.compile(r"(\d{1,9})\.(\d{1,9})")  # the attempt that its trace begins with, and the event's number in it


@dataclass
class _Live:
    """A run that this process works on."""

    task: asyncio.Task[None] | None = None
    is_cancelled: bool = False  # by its owner; otherwise it goes on with the next server
    news: asyncio.Event = field(default_factory=asyncio.Event)  # another one after each event

    def tell(self) -> None:
        told, self.news = self.news, asyncio.Event()
        told.set()


class _Recorder:
    """Keeps a run's events in its trace file, and wakes those who read it."""

    def __init__(self, writer: TraceWriter, live: _Live) -> None:
        self._writer = writer
        self._live = live

    def write(self, event: Event) -> None:
        self._writer.write(event)
        self._live.tell()


class Runs:
    """All runs of all tenants. Whoever asks for another's is told what he is told for one that is not there."""

    def __init__(self, desk: Desk, database: Database, files: Files) -> None:
        self._desk = desk
        self._database = database
        self._files = files
        self._folder = database.folder / "runs"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._live: dict[str, _Live] = {}
        # Whoever worked on these is gone: a folder has one server.
        waiting, working = RunState.QUEUED.value, RunState.RUNNING.value
        database.write("UPDATE runs SET state = ? WHERE state = ?", waiting, working)

    def start(self, tenant: str, body: RunBody, request: str | None = None, caller: Caller = NOBODY) -> Run:
        """Accept a run: from now on it survives everything but its owner. Raises Problem for what cannot begin.

        request: what the caller calls it; under the same name it is accepted once, and Problem (409) is raised for
        another body.
        """
        body.check()
        self._desk.check_cost(body.limits.limits())
        told = encoded(body.model_dump(by_alias=True, exclude_unset=True)).decode()
        digest = hashlib.sha256(told.encode()).hexdigest()
        if request is not None:
            query = "SELECT id, digest FROM runs WHERE tenant = ? AND request = ?"
            for row in self._database.rows(query, tenant, request):
                if row["digest"] != digest:
                    raise Problem(409, "another run was asked for with this Idempotency-Key", code="idempotency_key")
                return self.find(tenant, row["id"])
        (kept,) = self._database.rows("SELECT count(*) FROM runs WHERE tenant = ?", tenant)[0]
        if kept >= self._desk.settings.max_kept_runs:
            raise Problem(409, f"{kept} runs are kept, as many as may be; delete some", code="too_many_runs")
        for file in self._files.check(tenant, body.file_ids):
            caller.limits.check_document(file.bytes, file.name)
        body.check_sizes(caller.limits)
        if self._desk.quotas is not None:
            self._desk.quotas.check(caller)
        ticket = self._desk.runs.ticket(tenant, caller)
        run_id = f"run-{secrets.token_hex(12)}"
        try:
            self._database.write(
                "INSERT INTO runs (id, tenant, model, question, state, attempt, created, body, request, key, digest) "
                "VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)",
                *(
                    run_id,
                    tenant,
                    self._desk.card.name,
                    body.question,
                    RunState.QUEUED.value,
                    time.time(),
                    told,
                    request,
                    caller.key,
                    digest,
                ),
            )
        except RlmError:
            ticket.close()
            raise
        self._begin(run_id, ticket)
        return self.find(tenant, run_id)

    def go_on(self) -> int:
        """Work on every run that an earlier server has left, and return how many there were."""
        query = "SELECT id, tenant, key FROM runs WHERE state = ? AND model = ? ORDER BY created, id"
        left = self._database.rows(query, RunState.QUEUED.value, self._desk.card.name)
        for row in left:
            self._begin(row["id"], self._desk.runs.ticket(row["tenant"], Caller(row["key"]), accepted=True))
        return len(left)

    def find(self, tenant: str, run_id: str) -> Run:
        """Raises Problem (404)."""
        found = self._database.rows(f"SELECT {COLUMNS} FROM runs WHERE id = ? AND tenant = ?", run_id, tenant)
        if not found:
            raise Problem(404, "there is no such run", code="not_found")
        return run_of(found[0])

    def page(self, tenant: str, most: int, *, after: str | None, state: RunState | None) -> list[Run]:
        """Return at most so many runs, the newest first, those behind `after`. Raises Problem (404) for no such run."""
        if after is not None:
            self.find(tenant, after)
        rows = self._database.page("runs", COLUMNS, tenant, most, after=after, newest_first=True, state=state)
        return [run_of(row) for row in rows]

    async def cancel(self, tenant: str, run_id: str) -> Run:
        """End a run and return it, ended; one that had ended stays as it is. Raises Problem (404)."""
        self.find(tenant, run_id)
        live = self._live.get(run_id)
        if live is not None and live.task is not None:
            if not live.is_cancelled:  # else it is being put away, which a second cancel would break off
                live.is_cancelled = True
                live.task.cancel()
            await asyncio.wait({live.task})
        if not self.find(tenant, run_id).state.has_ended:  # it had not begun, or waits for a server of another model
            self._end(run_id, RunState.CANCELLED, {})
        return self.find(tenant, run_id)

    def delete(self, tenant: str, run_id: str) -> None:
        """Forget a run that has ended, with its events. Raises Problem: 404, and 409 while it goes on."""
        if not self.find(tenant, run_id).state.has_ended:
            raise Problem(409, "the run goes on; cancel it first", code="not_ended")
        self._database.write("DELETE FROM runs WHERE id = ? AND tenant = ?", run_id, tenant)
        self._trace(run_id).unlink(missing_ok=True)

    async def events(self, tenant: str, run_id: str, last_id: str) -> AsyncGenerator[bytes, None]:
        """Yield a run's events, from behind the one with `last_id` where that is one, as they come; then the run.

        A run that could not go on from where a server's end cut it short is told by `restarted`: what came before is
        void. A run that is deleted meanwhile ends its events with an `error`.
        """
        place = _EVENT_ID.fullmatch(last_id)
        began, behind = (int(place[1]), int(place[2])) if place else (0, -1)
        reader = TraceReader(self._trace(run_id))
        while True:
            live = self._live.get(run_id)
            news = live.news if live is not None else None  # before looking: what happens then is not missed
            try:
                run = self.find(tenant, run_id)
            except Problem as gone:  # it was deleted since: the answer has begun, and can only end
                yield event(problem_body(gone), name="error")
                return
            if run.began != began:
                if began:
                    yield event({"attempt": run.attempt}, name="restarted")
                began, behind, reader = run.began, -1, TraceReader(self._trace(run_id))
            lines = reader.lines()
            for number, line in lines:
                if number > behind:
                    yield b"id: %d.%d\nevent: %s\ndata: %s\n\n" % (began, number, event_name(line), line)
            if lines:
                continue  # a trace is read piece by piece, and whether the run has ended is told behind the last one
            if run.state.has_ended:
                yield event(run.as_object(), name="ended")
                return
            if news is None:
                told = Problem(503, "the run goes on when a server is there again", code="stopping")
                yield event(problem_body(told), name="error")
                return
            try:
                async with asyncio.timeout(STILL_THERE_S):
                    await news.wait()
            except TimeoutError:
                yield STILL_THERE

    # --- the work -----------------------------------------------------------------------------------------

    def _begin(self, run_id: str, ticket: Ticket) -> None:
        live = self._live[run_id] = _Live()
        live.task = asyncio.create_task(self._work(run_id, ticket, live))
        live.task.add_done_callback(lambda _: self._leave(run_id, ticket, live))  # also where it took no step

    def _leave(self, run_id: str, ticket: Ticket, live: _Live) -> None:
        ticket.close()
        del self._live[run_id]
        live.tell()

    async def _work(self, run_id: str, ticket: Ticket, live: _Live) -> None:
        """Bring a run to its end, or leave it to the next server when this one stops."""
        outcome: JsonObject = {}
        try:
            outcome = {"answer": await self._desk.under_way(self._answer(run_id, ticket, live))}
            state = RunState.DONE
        except asyncio.CancelledError:
            if not live.is_cancelled:
                raise
            state = RunState.CANCELLED
        except (RlmError, Problem) as error:
            if self._desk.state == "stopping":
                log("run parked", run=run_id)
                return
            state = RunState.CANCELLED if live.is_cancelled else RunState.FAILED
            outcome = {} if live.is_cancelled else problem_body(problem_of(error))
        except Exception as error:  # a mistake of ours must not leave a run that never ends
            log("failure", run=run_id, error=type(error).__name__)
            state, outcome = RunState.FAILED, problem_body(Problem(500, FAILED))
        try:
            self._end(run_id, state, outcome)
        except RlmError as error:  # the next server finds the end in its trace
            log("the end of a run is not kept", run=run_id, error=str(error))

    async def _answer(self, run_id: str, ticket: Ticket, live: _Live) -> JsonObject:
        """Return the answer as it is kept."""
        async with ticket:
            runtime = self._desk.runtime  # none, once the server stops: then the attempt does not begin
            # Only now: the documents of runs that wait are not held in memory.
            request = await asyncio.to_thread(self._request, run_id, ticket.tenant)
            left = await asyncio.to_thread(read_left, self._trace(run_id), runtime, request)
            if left is not None and left.answer is not None:
                return kept_answer(left.answer, request.documents)  # its server ended before it could note this
            try:
                answer = await self._attempt(run_id, ticket, request, left, live)
            except RunDiffers as error:
                if left is None:
                    raise
                log("run begins anew", run=run_id, error=type(error).__name__)
                answer = await self._attempt(run_id, ticket, request, None, live)
            return kept_answer(answer, request.documents)

    def _request(self, run_id: str, tenant: str) -> Request:
        (row,) = self._database.rows("SELECT body FROM runs WHERE id = ?", run_id)
        return RunBody.model_validate(json.loads(row["body"])).request(self._files, tenant)

    async def _attempt(self, run_id: str, ticket: Ticket, request: Request, left: Left | None, live: _Live) -> Answer:
        """Let a run go on from what an earlier attempt has left, or begin."""
        path = self._trace(run_id)
        if left is None:
            path.unlink(missing_ok=True)
        self._database.write(
            "UPDATE runs SET state = ?1, started = coalesce(started, ?2), attempt = attempt + 1, "
            "began = iif(?3, began, attempt + 1) WHERE id = ?4",
            *(RunState.RUNNING.value, time.time(), left is not None, run_id),
        )
        with TraceWriter(path, behind=left.written if left else None) as writer:
            log("run goes on" if left else "run begins", run=run_id)
            live.tell()
            past, booked = (left.past, left.booked) if left else (None, 0)
            return await self._desk.ask(ticket, request, _Recorder(writer, live), past=past, booked=booked)

    def _end(self, run_id: str, state: RunState, outcome: JsonObject) -> None:
        self._database.write(
            # The documents of a run that has ended are forgotten.
            "UPDATE runs SET state = ?1, ended = ?2, outcome = ?3, body = '' WHERE id = ?4",
            *(state.value, time.time(), encoded(outcome).decode(), run_id),
        )
        log("run ended", run=run_id, state=state.value)

    def _trace(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.jsonl"
