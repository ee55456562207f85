"""Start the CPU engine's process, wait until it answers, replace it when it crashes, and end it."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from rlm_local.engine.backoff import Backoff
from rlm_local.engine.client import HttpEngine
from rlm_local.engine.llama.gguf import model_shape
from rlm_local.engine.memory import available_bytes, cells_for
from rlm_local.engine.process import EngineProcess, Launch
from rlm_local.errors import EngineUnavailable
from rlm_local.types import Completion, EngineInfo, Reply

T = TypeVar("T")


@asynccontextmanager
async def launch_llama(
    weights: Path,
    model: str,
    *,
    window_tokens: int,
    runtime_dir: Path,
    kv_tokens: int | None = None,
    threads: int | None = None,
    log: Path | None = None,
) -> AsyncIterator[LlamaEngine]:
    """Run the CPU engine for the length of the block.

    window_tokens: most tokens of one request. kv_tokens: cells kept in memory; see memory.cells_for.
    threads: of one computation; by default every processor that this process may use.
    log: a file to which everything that the process says is appended.
    Raises ConfigError when the window is longer than the model's, or window or cells are larger than memory,
    EngineError when the file's header tells that it is no whole model, and EngineUnavailable when the process
    does not come up; the message ends with its last words.
    """
    launch = plan(
        weights,
        model,
        window_tokens=window_tokens,
        kv_tokens=kv_tokens,
        runtime_dir=runtime_dir,
        threads=threads,
        log=log,
    )
    engine = LlamaEngine(launch, await _Running.start(launch))
    try:
        yield engine
    finally:
        await engine.close()


def plan(
    weights: Path,
    model: str,
    *,
    window_tokens: int,
    kv_tokens: int | None,
    runtime_dir: Path,
    threads: int | None,
    log: Path | None,
) -> Launch:
    """Return how to start the engine on this machine. Raises what launch_llama raises before it starts anything."""
    shape, room = model_shape(weights), available_bytes()
    return Launch(
        weights=weights.resolve(),
        model=model,
        window_tokens=window_tokens,
        cells=cells_for(shape, model, window_tokens=window_tokens, kv_tokens=kv_tokens, available_bytes=room),
        threads=threads or len(os.sched_getaffinity(0)),
        runtime_dir=runtime_dir,
        log=log,
    )


@dataclass(frozen=True, slots=True)
class _Running:
    """A process that answers, and the client that talks to it."""

    process: EngineProcess
    client: HttpEngine

    @classmethod
    async def start(cls, launch: Launch) -> Self:
        process = EngineProcess(launch)
        try:
            return cls(process, await process.ready())
        except BaseException:
            await process.stop()
            raise

    async def stop(self) -> None:
        try:
            await self.client.close()
        finally:
            await self.process.stop()


class LlamaEngine:
    """The CPU engine as ports.Engine, through crashes of its process.

    A crash costs the requests that were under way one repetition: nothing of them had been handed out. What
    crashes a second time is an error, and an engine that has answered nothing since its last start waits before
    it is started again, see Backoff; until then every request is refused at once.
    """

    def __init__(self, launch: Launch, running: _Running) -> None:
        self._launch = launch
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

    async def complete(self, completion: Completion) -> Reply:
        """See ports.Engine."""
        return await self._through_crashes(lambda client: client.complete(completion))

    async def count_tokens(self, text: str) -> int:
        """See ports.Engine."""
        return await self._through_crashes(lambda client: client.count_tokens(text))

    async def close(self) -> None:
        """End the process. Safe to call twice."""
        await self._running.stop()

    async def _through_crashes(self, call: Callable[[HttpEngine], Awaitable[T]]) -> T:
        # A restart that failed, or was cancelled, has left a process that ended and a client that is closed.
        running = await self._replaced(self._running, None) if self._is_down else self._running
        try:
            answer = await call(running.client)
        except EngineUnavailable as error:
            if not await running.process.has_died():
                raise
            running = await self._replaced(running, error)
            try:
                answer = await call(running.client)
            except EngineUnavailable as again:
                if await running.process.has_died():
                    raise self._given_up(running) from again
                raise
        self._backoff.answered()
        return answer

    async def _replaced(self, dead: _Running, cause: EngineUnavailable | None) -> _Running:
        async with self._mending:
            if self._running is dead:  # else another request has seen to it
                if self._backoff.wait_s:
                    raise self._given_up(dead) from cause
                self._is_down = True
                await dead.stop()
                try:
                    self._running = await _Running.start(self._launch)
                except EngineUnavailable as error:
                    self._backoff.restarted()
                    self._failed_start = str(error)
                    raise
                self._backoff.restarted()
                self._is_down, self._failed_start = False, ""
            return self._running

    def _given_up(self, running: _Running) -> EngineUnavailable:
        ending = f"the engine for {self._launch.model} {running.process.ending} after a restart that answered nothing"
        told = f"{self._launch.log} has its words" if self._launch.log else "RLM_LOCAL_LOG=/a/file keeps its words"
        again = f"it is not started again for {math.ceil(self._backoff.wait_s)} s"
        return EngineUnavailable(f"{self._failed_start or ending}; {again}", hint=told)
