"""AsyncRLM: a model and its runs, for code that has an event loop."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from rlm_local.api.asking import Documents, Options, Settings, Validator, checking, one_of, read_documents
from rlm_local.cards import DEFAULT_MODEL
from rlm_local.config import Home, home
from rlm_local.errors import ConfigError, RlmError
from rlm_local.events import Event
from rlm_local.grammar import AnswerSchema
from rlm_local.limits import Limits
from rlm_local.plan import Plan, default_depth, plan_runtime
from rlm_local.ports import Recorder
from rlm_local.resume import check_same, check_unfinished, check_window, read_again
from rlm_local.runtime import Runtime, start_runtime
from rlm_local.trace import TraceWriter, Written, read_trace
from rlm_local.types import DEFAULT_GRAMMAR, Answer, GrammarMode, Request, Route

T = TypeVar("T")


class AsyncRLM:
    """Answers questions about documents. Runs may follow each other or go side by side, in one event loop.

    The engine starts with the first question and ends with close(), or with `async with`; at the latest it ends when
    this process does, however that is.
    """

    def __init__(self, model: str | Runtime = DEFAULT_MODEL, **settings: Unpack[Settings]) -> None:
        """model: a card's name or alias; or a runtime that somebody else opens and closes.

        Raises ConfigError for an unknown model or a setting that it cannot have, StoreError when its weights are not
        pulled, JailUnavailable when there is no nsjail to start.
        """
        _only_known(settings, Settings)
        self._source = model if isinstance(model, Runtime) else _plan(model, settings)
        self._runtime: Runtime | None = model if isinstance(model, Runtime) else None
        self._opened = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def ask(self, question: str, documents: Documents, **options: Unpack[Options]) -> Answer:
        """Return the answer to a question about documents. For the options see `Options`.

        A limit ends a run with an unconfirmed answer. Raises ConfigError and DocumentError for what was given,
        EngineError, JailError and TraceError for what is our fault, and whatever but ValueError the validator raises.
        Cancelling the awaiting task ends the run, its requests to the engine, and its jails.
        """
        return await self._held(self._ask(question, documents, options, told=None))

    async def events(
        self, question: str, documents: Documents, **options: Unpack[Options]
    ) -> AsyncGenerator[Event, None]:
        """Ask, and yield the run's events as they come (rlm_local.events); the last one is RunEnded, with the answer.

        Closing the generator ends the run.
        """
        told: asyncio.Queue[Event | None] = asyncio.Queue()
        run = asyncio.create_task(self._held(self._ask(question, documents, options, told=told)))
        run.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (event := await told.get()) is not None:
                yield event
            await run
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)

    async def resume(self, trace: Path, paths: Sequence[Path] = (), *, validator: Validator | None = None) -> Answer:
        """Let a run go on that was interrupted, from the file that it was asked to keep (Options.trace).

        paths: of documents that are elsewhere now, or that were no files. Nothing that was paid is paid again.
        Raises what `ask` does, and ConfigError for a run that has its answer, TraceError for one of another model.
        """
        return await self._held(self._resume(trace, paths, validator))

    async def close(self) -> None:
        """End all runs, and the engine. Safe to call twice."""
        self._is_closed = True
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)
        async with self._opening:
            await self._opened.aclose()

    async def __aenter__(self) -> Self:
        """Start the engine now, in place of with the first question."""
        await self._held(self._start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _held(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work that close() ends."""
        if self._is_closed:
            work.close()
            raise RlmError("this RLM is closed; make another one")
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._is_closed and current is not None and not current.cancelling():
                raise RlmError("this RLM was closed before the answer was there") from None
            raise

    async def _start(self) -> Runtime:
        async with self._opening:
            if self._runtime is None:
                assert isinstance(self._source, Plan)
                self._runtime = await self._opened.enter_async_context(start_runtime(self._source))
                for warning in self._runtime.warnings:
                    warnings.warn(warning, stacklevel=2)
            return self._runtime

    async def _ask(
        self, question: str, documents: Documents, options: Options, *, told: asyncio.Queue[Event | None] | None
    ) -> Answer:
        request = await self._request(question, documents, options)
        runtime = await self._start()
        path = options.get("trace")
        with nullcontext() if path is None else TraceWriter(path) as writer:
            return await runtime.ask(
                request,
                _Telling(writer, told),
                validate=checking(options.get("validator")),
                ask_before=options.get("ask_before"),
            )

    async def _request(self, question: str, documents: Documents, options: Options) -> Request:
        _only_known(options, Options)
        if not question.strip():
            raise ConfigError("the question is empty")
        schema, coverage = options.get("schema"), options.get("require_coverage", 0.0)
        if not 0 <= coverage <= 1:
            raise ConfigError(f"require_coverage is {coverage}, but must be 0..1")
        if (ask_before := options.get("ask_before")) is not None and ask_before < 1:
            raise ConfigError(f"ask_before is {ask_before}, but must be at least 1")
        limits = options.get("limits") or Limits(max_depth=default_depth(self._source.profile))
        if not isinstance(limits, Limits):
            raise ConfigError(f"limits is {limits!r}, but must be a Limits, as Limits(max_turns=3)")
        return Request(
            question.strip(),
            await asyncio.to_thread(read_documents, documents, strict=options.get("strict", False)),
            limits,
            one_of(GrammarMode, "grammar", options.get("grammar", DEFAULT_GRAMMAR)),
            None if schema is None else AnswerSchema(schema).schema,
            coverage,
            one_of(Route, "route", options.get("route", Route.AUTO)),
        )

    async def _resume(self, path: Path, paths: Sequence[Path], validator: Validator | None) -> Answer:
        trace = await asyncio.to_thread(read_trace, path)
        check_unfinished(trace)
        again = await asyncio.to_thread(read_again, trace, [str(one) for one in paths])
        check_same(again, self._source)
        runtime = await self._start()
        check_window(again, runtime)
        with TraceWriter(path, behind=Written(len(trace.events), trace.whole_bytes, trace.times_s[-1])) as writer:
            return await runtime.ask(again.request, writer, past=again.past(), validate=checking(validator))


def _plan(model: str, settings: Settings) -> Plan:
    root = settings.get("home")
    where = home() if root is None else Home(data=root, state=root, runtime=root / "run")
    return plan_runtime(model, where, window_tokens=settings.get("window_tokens"), kv_tokens=settings.get("kv_tokens"))


def _only_known(given: Mapping[str, object], kind: type) -> None:
    """Raise TypeError for a name that a TypedDict does not have: Python checks no such thing."""
    if unknown := sorted(given.keys() - kind.__annotations__.keys()):
        raise TypeError(f"there is no {unknown[0]!r}; there are {', '.join(kind.__annotations__)}")


class _Telling:
    """A Recorder for whoever wants to keep the events, or to hear of them."""

    def __init__(self, writer: Recorder | None, told: asyncio.Queue[Event | None] | None) -> None:
        self._writer = writer
        self._told = told

    def write(self, event: Event) -> None:
        if self._writer is not None:
            self._writer.write(event)
        if self._told is not None:
            self._told.put_nowait(event)
