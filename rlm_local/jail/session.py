"""A session: one namespace that outlives its jails. Implements ports.Repl."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType

from rlm_local.errors import ConfigError, JailUnavailable, WorkerLost
from rlm_local.jail.cell import CellRun, Job, Observed
from rlm_local.jail.messages import Done
from rlm_local.jail.process import Jail, Opening
from rlm_local.jail.wire import Json
from rlm_local.limits import Limits
from rlm_local.ports import QueryHandler, RecurseHandler
from rlm_local.types import CellResult, CellStatus, ChildAsk, Corpus, JsonValue, SubCall, Usage

# For the model, of a cell that was stopped while its jail lived on.
_STOPPED = {
    CellStatus.TIMEOUT: "The code ran too long and was stopped; its variables are kept.",
    CellStatus.OUT_OF_MEMORY: "The code ran out of memory and was stopped; its variables are kept.",
}
_NO_NOTES: Mapping[str, JsonValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Past:
    """A cell that ran and whose jail lived on, and what it takes to run it again without an engine."""

    number: int  # the name that its functions have in tracebacks
    code: str
    wall_s: float
    subcalls: tuple[SubCall, ...]
    status: CellStatus

    @property
    def can_replay(self) -> bool:
        """A cell that raised can: what it had set before is set again. One that was stopped by a limit would
        cost that limit again, and stop at another place."""
        return self.status in (CellStatus.OK, CellStatus.RAISED)


class JailSession:
    """Cells in a jail, one at a time. A jail that dies is replaced, and the earlier cells are run again in it."""

    def __init__(self, opening: Opening, document_chars: Sequence[int]) -> None:
        self._opening = opening
        self._document_chars = document_chars
        self._jail: Jail | None = None
        self._cells = 0
        self._past: list[_Past] = []
        self._gone: list[int] = []  # cells that a rebuild has lost and that the model was not told of yet
        self._busy = asyncio.Lock()
        self._closed = False

    @classmethod
    async def start(cls, corpus: Corpus, limits: Limits, *, notes: Mapping[str, JsonValue] = _NO_NOTES) -> JailSession:
        """Return a session in a running jail.

        notes: further variables that cells find, by name. Raises JailUnavailable with what is missing, ConfigError
        for a note whose name is no Python name.
        """
        for name in notes:
            if not name.isidentifier():
                raise ConfigError(f"the note {name!r} is not a Python name")
        chars = tuple(len(document.text) for document in corpus.documents)
        frame: dict[str, Json] = {
            "op": "open",
            "names": [str(document.name) for document in corpus.documents],
            "starts": list(corpus.starts),
            "lengths": list(chars),
            "output_bytes": limits.cell_output_bytes,
            "memory_bytes": limits.cell_memory_bytes,
            "notes": dict(notes),
        }
        session = cls(Opening(corpus.context, frame, limits), chars)
        session._jail = await Jail.start(session._opening)
        return session

    async def __aenter__(self) -> JailSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def execute(
        self, code: str, *, wall_s: float, query: QueryHandler, recurse: RecurseHandler | None = None
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
            observed = await self._run(jail, self._cells, code, wall_s, query, recurse)
            elapsed_s = time.monotonic() - started
            result = _result(observed, elapsed_s, was_out_of_memory=jail.was_out_of_memory())
            if observed.done is None:
                await self._drop()
                self._jail = await self._rebuilt()
            else:
                self._past.append(_Past(self._cells, code, wall_s, result.subcalls, result.status))
            return self._with_losses(result)

    async def restore(self, cells: Sequence[tuple[str, CellResult]]) -> None:
        """Run cells again that ran in another session, each with its result there, before the first of this one.

        Their sub-calls are answered from their results. Those that cannot be run again, or that end otherwise this
        time, are told to the model after its next cell. Raises JailUnavailable or WorkerLost.
        """
        async with self._busy:
            for code, result in cells:
                self._cells += 1
                if result.status is not CellStatus.KILLED:  # of which the model was told then
                    wall_s = self._opening.limits.cell_s
                    self._past.append(_Past(self._cells, code, wall_s, result.subcalls, result.status))
            await self._rerun()

    @property
    def jail(self) -> Jail:
        """The running jail, for whoever looks at it from outside. Raises WorkerLost when there is none."""
        if self._jail is None:
            raise WorkerLost("the session has no running jail")
        return self._jail

    async def close(self) -> None:
        """End the jail and everything in it. Safe to call twice, and while a cell runs."""
        self._closed = True
        await self._drop()

    async def _run(
        self, jail: Jail, number: int, code: str, wall_s: float, query: QueryHandler, recurse: RecurseHandler | None
    ) -> Observed:
        job = Job(number, code, wall_s, self._opening.limits, self._document_chars, query, recurse)
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
        await self._fresh()
        return await self._rerun()

    async def _rerun(self) -> Jail:
        jail = self.jail
        for past in tuple(self._past):
            if past.can_replay:
                observed = await self._run(jail, past.number, past.code, past.wall_s, *_recorded(past.subcalls))
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

    async def _fresh(self) -> Jail:
        """Start the jail anew. Raises WorkerLost when it cannot be, or when the session was closed meanwhile."""
        try:
            jail = None if self._closed else await Jail.start(self._opening)
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


def _recorded(subcalls: Sequence[SubCall]) -> tuple[QueryHandler, RecurseHandler]:
    """Return handlers that answer each prompt as it was answered before, equal prompts in their order."""
    waiting: dict[str, list[SubCall]] = {}
    for subcall in reversed(subcalls):
        waiting.setdefault(subcall.prompt, []).append(subcall)

    async def answer(prompts: Sequence[str]) -> Sequence[SubCall]:
        return [
            waiting[prompt].pop()
            if waiting.get(prompt)
            else SubCall(prompt, "", Usage(), refused="this call was not made when the cell first ran")
            for prompt in prompts
        ]

    async def recurse(asks: Sequence[ChildAsk]) -> Sequence[SubCall]:
        # At the last level a question was a plain call, whose prompt ends with it.
        asked = [
            next((prompt for prompt, left in waiting.items() if left and prompt.endswith(ask.question)), ask.question)
            for ask in asks
        ]
        return await answer(asked)

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
