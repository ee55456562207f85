"""The three sockets of the controller. It knows these shapes and nothing of who is plugged in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Protocol, TypeAlias, runtime_checkable

from rlm_local.events import Event
from rlm_local.types import (
    CallForm,
    CellResult,
    ChildAsk,
    Completion,
    EngineInfo,
    JsonObject,
    JsonValue,
    Reply,
    SubCall,
    Usage,
)

QueryHandler: TypeAlias = Callable[[Sequence[str], CallForm], Awaitable[Sequence[SubCall]]]
"""Answers the texts of one call, in order, one SubCall each (llm_reduce: one for all). A text that may not be
answered comes back with `refused` set; a call that cannot be served at all, as for a wrong schema, raises
BadCall, whose words go to the code that made it."""

RecurseHandler: TypeAlias = Callable[[Sequence[ChildAsk]], Awaitable[Sequence[SubCall]]]
"""Answers the questions of one rlm_query or rlm_query_batched in the same way."""

NO_FACTS: Mapping[str, JsonValue] = MappingProxyType({})


class BadCall(Exception):
    """What code in a cell asked of a sub-model cannot be done. The message names value, bound and repair."""


class CallCancelled(asyncio.CancelledError):
    """A request to the engine was cancelled; `usage` is what it had come to cost."""

    def __init__(self, usage: Usage) -> None:
        super().__init__()
        self.usage = usage


@runtime_checkable
class Engine(Protocol):
    """Generates text. Safe to call from several tasks at once."""

    @property
    def info(self) -> EngineInfo: ...

    async def complete(self, completion: Completion) -> Reply:
        """Return the engine's reply, its text obeying `completion.grammar` unless stop is LENGTH.

        Raises EngineRefused when the request cannot fit the window (both numbers in the message) or its
        grammar does not compile; EngineUnavailable when the engine is gone. Cancelling the awaiting task
        ends the generation, and raises CallCancelled where the engine says what was spent until then.
        """
        ...

    async def count_tokens(self, text: str) -> int:
        """Return how many tokens the engine's tokenizer makes of `text`, special tokens read as plain text."""
        ...


@runtime_checkable
class ChatEngine(Engine, Protocol):
    """An engine that also takes requests in OpenAI's shape as they are, for callers who want it and no run.

    `body` is that of /v1/chat/completions, with vLLM's names for what OpenAI has not. Both raise EngineRefused and
    EngineUnavailable as complete() does.
    """

    async def chat(self, body: JsonObject) -> JsonObject:
        """Return the whole answer. Cancelling the awaiting task ends the generation."""
        ...

    def chat_stream(self, body: JsonObject) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Begin a stream and return its server-sent events, in pieces as they come.

        What the engine refuses is raised on entering; leaving ends the generation.
        """
        ...


@runtime_checkable
class Repl(Protocol):
    """Runs cells of Python in one namespace that lives until close(). One cell at a time."""

    async def execute(
        self,
        code: str,
        *,
        wall_s: float,
        query: QueryHandler,
        recurse: RecurseHandler | None = None,
        facts: Mapping[str, JsonValue] = NO_FACTS,
    ) -> CellResult:
        """Run one cell and return what happened; whatever the code did is in the result, not raised.

        wall_s: for this cell, not counting the time in which it waits for `query` or `recurse`.
        recurse: None refuses every question to a child. facts: variables that the cell finds as they are now, such
        as what is left to spend.
        Raises JailUnavailable when no jail can be started, WorkerLost when it cannot be rebuilt.
        """
        ...

    async def close(self) -> None:
        """End the worker and everything it started. Safe to call twice."""
        ...


@runtime_checkable
class Recorder(Protocol):
    """Keeps the events of a run, in order."""

    def write(self, event: Event) -> None:
        """Keep one event durably before returning. Raises TraceError when it cannot."""
        ...
