"""An engine that we start and watch: it is replaced when it crashes, and ended with us."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from rlm_local.engine.backoff import Backoff
from rlm_local.engine.client import HttpEngine
from rlm_local.engine.process import EngineProcess, Program
from rlm_local.errors import EngineUnavailable
from rlm_local.types import Completion, EngineInfo, JsonObject, Reply

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Running:
    """A process that answers, and the client that talks to it."""

    process: EngineProcess
    client: HttpEngine

    @classmethod
    async def start(cls, program: Program) -> Self:
        process = EngineProcess(program)
        try:
            return cls(process, await process.ready())
        except BaseException:
            await process.stop()
            raise

    async def has_died(self) -> bool:
        """Tell whether an error was the process's death. One that is dying says so, or says nothing any more."""
        return not await self.client.is_healthy() and await self.process.has_died()

    async def stop(self) -> None:
        try:
            await self.client.close()
        finally:
            await self.process.stop()


class SupervisedEngine:
    """An engine of our own starting as ports.Engine, through crashes of its process.

    A crash costs the requests that were under way one repetition: nothing of them had been handed out. What
    crashes a second time is an error, and an engine that has answered nothing since its last start waits before
    it is started again, see Backoff; until then every request is refused at once.
    """

    def __init__(self, program: Program, running: Running) -> None:
        self._program = program
        self._running = running
        self._info = running.client.info
        self._mending = asyncio.Lock()
        self._backoff = Backoff()
        self._is_down = False  # _running was stopped, and nothing has taken its place yet
        self._failed_start = ""  # what the last restart said when it came to nothing

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def pid(self) -> int:
        """Of the process that answers now; another one after a crash."""
        return self._running.process.pid

    @property
    def socket(self) -> Path:
        """Of that process; only this user can open it."""
        return self._running.process.socket

    @property
    def warnings(self) -> tuple[str, ...]:
        """What that process has warned of, as it said it: sentences without the word `warning:`."""
        return tuple(self._running.process.warnings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the engine was found to do when it was started, sentences for the user."""
        return self._running.client.notes

    async def complete(self, completion: Completion) -> Reply:
        """See ports.Engine."""
        return await self._through_crashes(lambda client: client.complete(completion))

    async def count_tokens(self, text: str) -> int:
        """See ports.Engine."""
        return await self._through_crashes(lambda client: client.count_tokens(text))

    async def chat(self, body: JsonObject) -> JsonObject:
        """See ports.ChatEngine."""
        return await self._through_crashes(lambda client: client.chat(body))

    @asynccontextmanager
    async def chat_stream(self, body: JsonObject) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """See ports.ChatEngine. A crash after the first piece raises: what was handed out cannot be taken back."""
        async with AsyncExitStack() as opened:
            yield await self._through_crashes(lambda client: opened.enter_async_context(client.chat_stream(body)))

    async def close(self) -> None:
        """End the process. Safe to call twice."""
        await self._running.stop()

    async def _through_crashes(self, call: Callable[[HttpEngine], Awaitable[T]]) -> T:
        # A restart that failed, or was cancelled, has left a process that ended and a client that is closed.
        running = await self._replaced(self._running, None) if self._is_down else self._running
        try:
            answer = await call(running.client)
        except EngineUnavailable as error:
            if not await running.has_died():
                raise
            running = await self._replaced(running, error)
            try:
                answer = await call(running.client)
            except EngineUnavailable as again:
                if await running.has_died():
                    raise self._given_up(running) from again
                raise
        self._backoff.answered()
        return answer

    async def _replaced(self, dead: Running, cause: EngineUnavailable | None) -> Running:
        async with self._mending:
            if self._running is dead:  # else another request has seen to it
                if self._backoff.wait_s:
                    raise self._given_up(dead) from cause
                self._is_down = True
                await dead.stop()
                try:
                    self._running = await Running.start(self._program)
                except EngineUnavailable as error:
                    self._backoff.restarted()
                    self._failed_start = str(error)
                    raise
                self._backoff.restarted()
                self._is_down, self._failed_start = False, ""
            return self._running

    def _given_up(self, running: Running) -> EngineUnavailable:
        ending = f"the engine for {self._program.model} {running.process.ending} after a restart that answered nothing"
        told = f"{self._program.log} has its words" if self._program.log else "RLM_LOCAL_LOG=/a/file keeps its words"
        again = f"it is not started again for {math.ceil(self._backoff.wait_s)} s"
        return EngineUnavailable(f"{self._failed_start or ending}; {again}", hint=told)
