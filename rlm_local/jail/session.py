"""A session: one namespace that outlives its jails. Implements ports.Repl."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import TypeAlias

from rlm_local.errors import ConfigError, JailUnavailable, WorkerLost
from rlm_local.jail.cell import CellRun, Job, Observed
from rlm_local.jail.checkpoint import Checkpoint, PastCell
from rlm_local.jail.memory import SealedCorpus, seal
from rlm_local.jail.messages import Done
from rlm_local.jail.packages import NO_PACKAGES, Packages
from rlm_local.jail.process import Jail, Opening
from rlm_local.jail.wire import Json
from rlm_local.limits import Limits
from rlm_local.ports import NO_FACTS, BadCall, QueryHandler, RecurseHandler
from rlm_local.types import (
    CallForm,
    CallKind,
    CellResult,
    CellStatus,
    ChildAsk,
    Corpus,
    JsonValue,
    Page,
    SubCall,
    Usage,
    page_subcalls,
)

# For the model, of a cell that was stopped while its jail lived on.
_STOPPED = {
    CellStatus.TIMEOUT: "The code ran too long and was stopped; its variables are kept.",
    CellStatus.OUT_OF_MEMORY: "The code ran out of memory and was stopped; its variables are kept.",
}
_NO_NOTES: Mapping[str, JsonValue] = MappingProxyType({})


JailSource: TypeAlias = Callable[[Opening], Awaitable[Jail]]
"""Where a session has its jails from: a new one each time (Jail.start), or a pool's (JailPool.open)."""


class JailSession:
    """Cells in a jail, one at a time. A jail that dies is replaced, and the earlier cells are run again in it."""

    def __init__(self, opening: Opening, sealed: SealedCorpus, *, owns_text: bool, jails: JailSource) -> None:
        self._opening = opening
        self._sealed = sealed
        self._jails = jails
        self._owns_text = owns_text
        self._document_chars = tuple(len(document.text) for document in sealed.corpus.documents)
        self._jail: Jail | None = None
        self._cells = 0
        self._past: list[PastCell] = []
        self._gone: list[int] = []  # cells that a rebuild has lost and that the model was not told of yet
        self._busy = asyncio.Lock()
        self._closed = False

    @classmethod
    async def start(
        cls,
        documents: Corpus | SealedCorpus,
        limits: Limits,
        *,
        notes: Mapping[str, JsonValue] = _NO_NOTES,
        jails: JailSource | None = None,
        packages: Packages = NO_PACKAGES,
    ) -> JailSession:
        """Return a session in a running jail.

        documents: those that are sealed already are still the caller's to close, after this session.
        notes: further variables that cells find, by name. jails: a pool's open(), where there is one.
        packages: what cells can import beside the standard library.
        Raises JailUnavailable with what is missing, ConfigError for a note whose name is no Python name.
        """
        for name in notes:
            if not name.isidentifier():
                raise ConfigError(f"the note {name!r} is not a Python name")
        sealed = documents if isinstance(documents, SealedCorpus) else await seal(documents)
        corpus = sealed.corpus
        frame: dict[str, Json] = {
            "names": [str(document.name) for document in corpus.documents],
            "starts": list(corpus.starts),
            "lengths": [len(document.text) for document in corpus.documents],
            "output_bytes": limits.cell_output_bytes,
            "notes": dict(notes),
        }
        opening = Opening(sealed.text, frame, limits, packages)
        session = cls(opening, sealed, owns_text=sealed is not documents, jails=jails or Jail.start)
        try:
            session._jail = await session._jails(opening)
        except BaseException:
            await session.close()
            raise
        return session

    async def __aenter__(self) -> JailSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def execute(
        self,
        code: str,
        *,
        wall_s: float,
        query: QueryHandler,
        recurse: RecurseHandler | None = None,
        facts: Mapping[str, JsonValue] = NO_FACTS,
    ) -> CellResult:
        """Run one cell and return what happened. See ports.Repl.

        A cell that is cancelled, or whose query handler raises, takes its jail with it; the next cell rebuilds it.
        """
        async with self._busy:
            if self._closed:
                raise WorkerLost("the session is closed; start another one")
            if self._jail is not None and self._jail.has_ended:
                await self._drop()
            jail = self._jail or await self._rebuilt()
            started = time.monotonic()
            self._cells += 1
            job = Job(
                self._cells, code, wall_s, self._opening.limits, self._document_chars, query, facts, recurse=recurse
            )
            observed = await self._run(jail, job)
            elapsed_s = time.monotonic() - started
            result = _result(observed, elapsed_s, was_out_of_memory=jail.was_out_of_memory())
            result = replace(result, pages=tuple(observed.pages), facts=dict(facts) or None)
            if observed.done is None:
                await self._drop()
                self._jail = await self._rebuilt()
            else:
                past = PastCell(self._cells, code, wall_s, result.subcalls, result.status, facts, result.pages)
                self._past.append(past)
            return self._with_losses(result)

    def checkpoint(self) -> Checkpoint:
        """Return what it takes to bring this session back elsewhere, as of its last cell that has ended."""
        return Checkpoint(tuple(self._past), self._cells, tuple(self._gone))

    async def restore(self, checkpoint: Checkpoint) -> None:
        """Run the cells of another session again, before the first of this one, which then is in the same state.

        Cells that cannot be run again, or that end otherwise this time, are told to the model after its next cell.
        Raises ConfigError when cells have run here already, WorkerLost when a jail cannot be started again.
        """
        async with self._busy:
            if self._cells:
                raise ConfigError(f"{self._cells} cells have run in this session; restore a fresh one")
            self._cells, self._past = checkpoint.count, list(checkpoint.cells)
            self._gone = list(checkpoint.gone)
            self._jail = await self._replayed(self._jail or await self._fresh())

    @property
    def jail(self) -> Jail:
        """The running jail, for whoever looks at it from outside. Raises WorkerLost when there is none."""
        if self._jail is None:
            raise WorkerLost("the session has no running jail")
        return self._jail

    async def close(self) -> None:
        """End the jail and everything in it. Safe to call twice, and while a cell runs."""
        self._closed = True
        if self._owns_text:
            self._sealed.close()
        await self._drop()

    async def _run(self, jail: Jail, job: Job) -> Observed:
        try:
            return await CellRun(jail, job).run()
        except BaseException:
            await self._drop()
            raise

    async def _rebuilt(self) -> Jail:
        """Return a fresh jail in which the earlier cells were run again, their sub-calls answered from the record.

        Cells that cannot be run again, or that end otherwise this time, are forgotten and noted as gone.
        Raises WorkerLost when a jail cannot be started again.
        """
        return await self._replayed(await self._fresh())

    async def _replayed(self, jail: Jail) -> Jail:
        for past in tuple(self._past):
            if past.can_replay:
                observed = await self._run(jail, self._again(past))
                if observed.done is not None and _status(observed, observed.done) is past.status:
                    continue
                if observed.done is None:  # code that kills its jail only this time must not end the run
                    self._past.remove(past)
                    self._gone.append(past.number)
                    await self._drop()
                    return await self._rebuilt()
            self._past.remove(past)
            self._gone.append(past.number)
        return jail

    def _again(self, past: PastCell) -> Job:
        query, recurse = _recorded(past.subcalls, past.pages)
        limits, chars = self._opening.limits, self._document_chars
        return Job(past.number, past.code, past.wall_s, limits, chars, query, past.facts, recurse=recurse)

    async def _fresh(self) -> Jail:
        """Start the jail anew. Raises WorkerLost when it cannot be, or when the session was closed meanwhile."""
        try:
            jail = None if self._closed else await self._jails(self._opening)
        except JailUnavailable as error:
            raise WorkerLost(f"the jail died and cannot be started again: {error}", hint=error.hint) from error
        if jail is None or self._closed:
            if jail is not None:
                await jail.end()
            raise WorkerLost("the session was closed while a cell ran")
        self._jail = jail
        return jail

    def _with_losses(self, result: CellResult) -> CellResult:
        """Return the result with a sentence for the model on what a rebuild since its last cell has lost."""
        if not self._gone:
            return result
        gone, self._gone = self._gone, []
        cells = f"cell {gone[0]}" if len(gone) == 1 else f"cells {', '.join(map(str, gone))}"
        lost = f"The session was rebuilt, and the variables of {cells} are gone: that code was not run again."
        return replace(result, error="\n".join(filter(None, (result.error, lost))))

    async def _drop(self) -> None:
        jail, self._jail = self._jail, None
        if jail is not None:
            await jail.end()


def _recorded(subcalls: Sequence[SubCall], pages: Sequence[Page]) -> tuple[QueryHandler, RecurseHandler]:
    """Return handlers that answer each text as it was answered before, equal ones in their order."""
    waiting: dict[str, list[SubCall]] = {}
    for subcall in reversed(subcalls):
        waiting.setdefault(subcall.prompt, []).append(subcall)
    read = list(pages)

    async def answer(texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
        if form.kind is not CallKind.QUERY:
            asked = (form.kind, form.args, tuple(texts))
            page = next((page for page in read if (page.kind, page.args, page.items) == asked), None)
            if page is None:
                raise BadCall(f"this llm_{form.kind} was not made when the cell first ran")
            read.remove(page)
            return page_subcalls(page)
        return [
            waiting[text].pop()
            if waiting.get(text)
            else SubCall(text, "", Usage(), refused="this call was not made when the cell first ran")
            for text in texts
        ]

    async def recurse(asks: Sequence[ChildAsk]) -> Sequence[SubCall]:
        # At the last level a question was a plain call, whose prompt ends with it.
        asked = [
            next((prompt for prompt, left in waiting.items() if left and prompt.endswith(ask.question)), ask.question)
            for ask in asks
        ]
        return await answer(asked, CallForm())

    return answer, recurse


def _result(observed: Observed, elapsed_s: float, *, was_out_of_memory: bool) -> CellResult:
    spans, subcalls = tuple(observed.spans), tuple(observed.subcalls)
    done = observed.done
    if done is None:
        status, error = _death(observed, was_out_of_memory=was_out_of_memory)
        return CellResult(status, "", error=error, spans=spans, subcalls=subcalls, elapsed_s=elapsed_s)
    status, error = _status(observed, done), done.error
    if status in _STOPPED:
        error = "\n".join(filter(None, (error.rstrip("\n"), _STOPPED[status])))
    return CellResult(
        status,
        done.stdout,
        stdout_tail=done.stdout_tail,
        truncated_bytes=done.truncated_bytes,
        error=error,
        spans=spans,
        subcalls=subcalls,
        final=done.final,
        elapsed_s=elapsed_s,
    )


def _status(observed: Observed, done: Done) -> CellStatus:
    if done.status is CellStatus.TIMEOUT and not observed.interrupted:
        return CellStatus.RAISED  # a KeyboardInterrupt of the cell's own making
    return done.status


def _death(observed: Observed, *, was_out_of_memory: bool) -> tuple[CellStatus, str]:
    """Return status and one sentence for the model about a cell that took its jail with it."""
    rebuilt = "The session was rebuilt by running the earlier cells again; this cell's variables are gone."
    if was_out_of_memory:
        return CellStatus.OUT_OF_MEMORY, f"The cell ran out of memory and was ended. {rebuilt}"
    if observed.killed:
        return CellStatus.TIMEOUT, f"The cell's time was up and it did not stop when asked, so it was ended. {rebuilt}"
    if observed.broken:
        return CellStatus.KILLED, f"The cell broke the session's own channel and was ended. {rebuilt}"
    return CellStatus.KILLED, f"The cell ended its Python process. {rebuilt}"
