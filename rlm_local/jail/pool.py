"""Jails started ahead: each waits for documents, serves one run, and is never used again."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from rlm_local.errors import ConfigError, JailUnavailable
from rlm_local.jail.packages import NO_PACKAGES, Packages
from rlm_local.jail.process import Jail, Opening

MAX_AHEAD = 256
MAX_AGE_S = 600.0
_CALM_S = 0.02  # without a run that begins, before a jail is started ahead
_CALM_TIMES = 25  # of waiting for that
_RETRY_S = (0.1, 30.0)  # after a start that failed, doubled each time up to the second


@dataclass(frozen=True, slots=True)
class _Idle:
    jail: Jail
    since: float  # monotonic seconds
    watch: asyncio.Task[None]  # ends when the jail does


@dataclass(slots=True)
class PoolCounts:
    """What became of a pool's jails, for whoever watches it."""

    started: int = 0  # ahead
    taken: int = 0
    missed: int = 0  # runs that found no jail waiting, and started their own
    died: int = 0  # while they waited
    aged: int = 0
    failed: int = 0  # starts


class JailPool:
    """Keeps `ahead` jails waiting, as an async context. open() is a session's source of jails.

    A jail dies with the thread that started it: use the pool in a thread that lives as long as its runs. A jail that
    waits holds nothing of anybody's, so none is left to clean when the process is killed: each dies with it.

    runs: how many are to come, where that is known: no jail is started for one that will not.
    packages: what its jails can import; a run that wants others starts its own.
    """

    def __init__(
        self,
        ahead: int,
        *,
        runs: int | None = None,
        max_age_s: float = MAX_AGE_S,
        packages: Packages = NO_PACKAGES,
    ) -> None:
        if not 0 <= ahead <= MAX_AHEAD:
            raise ConfigError(f"a pool of {ahead} jails, but it must be 0..{MAX_AHEAD}")
        self._ahead = ahead
        self._runs = runs
        self._packages = packages
        self._max_age_s = max_age_s
        self._idle: deque[_Idle] = deque()  # oldest first
        self._changed = asyncio.Event()
        self._grown = asyncio.Event()
        self._asked = 0  # jails, as yet
        self._begun = 0.0  # when a run last asked for a jail, monotonic seconds
        self._keeper: asyncio.Task[None] | None = None
        self.counts = PoolCounts()

    async def __aenter__(self) -> JailPool:
        """Begin to start jails, and return at once."""
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def waiting(self) -> int:
        """How many jails are ready now."""
        return sum(not idle.jail.has_ended for idle in self._idle)

    def pids(self) -> list[int]:
        """Return the workers that wait, for whoever looks at them from outside."""
        return [idle.jail.worker_pid for idle in self._idle]

    async def open(self, opening: Opening) -> Jail:
        """Return a jail with these documents, one that has waited if there is any. See Jail.start."""
        self._asked += 1
        self._begun = time.monotonic()
        if opening.packages == self._packages and (idle := await self._next()) is not None:
            try:
                await idle.open(opening)
            except JailUnavailable:  # it died this very moment; if it was the documents, the next line tells
                self.counts.died += 1
            else:
                self.counts.taken += 1
                return idle
        self.counts.missed += 1
        return await Jail.start(opening)

    async def _next(self) -> Jail | None:
        """Take out the jail that has waited longest and still lives."""
        while self._idle:
            idle = self._idle.popleft()
            self._changed.set()
            if not idle.watch.done():
                idle.watch.cancel()
                return idle.jail
            await self._dispose(idle)
        return None

    async def full(self) -> None:
        """Wait until all jails of the pool are there."""
        while self.waiting < self._wanted():
            self._grown.clear()
            await self._grown.wait()

    async def close(self) -> None:
        """End every jail that waits. Safe to call twice."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        while self._idle:
            idle = self._idle.popleft()
            idle.watch.cancel()
            await idle.jail.end()

    async def _keep(self) -> None:
        """Fill the pool, and again whenever a jail is taken, dies or gets too old."""
        retry_s = _RETRY_S[0]
        while True:
            self._changed.clear()
            await self._weed()
            try:
                while len(self._idle) < self._wanted():
                    await self._calm()
                    self._add(await Jail.start_ahead(self._packages))
                    retry_s = _RETRY_S[0]
            except JailUnavailable:  # whoever asks for a jail meanwhile is told why
                self.counts.failed += 1
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _RETRY_S[1])
                continue
            oldest_s = self._idle[0].since + self._max_age_s - time.monotonic() if self._idle else None
            try:
                async with asyncio.timeout(oldest_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _wanted(self) -> int:
        return self._ahead if self._runs is None else max(min(self._ahead, self._runs - self._asked), 0)

    async def _calm(self) -> None:
        """Let the runs that begin just now go first: to fork a host that holds large documents takes it 50 ms."""
        for _ in range(_CALM_TIMES):
            if time.monotonic() - self._begun >= _CALM_S:
                return
            await asyncio.sleep(_CALM_S)

    def _add(self, jail: Jail) -> None:
        watch = asyncio.create_task(jail.exited())
        watch.add_done_callback(lambda _: self._changed.set())
        self._idle.append(_Idle(jail, time.monotonic(), watch))
        self.counts.started += 1
        self._grown.set()

    async def _weed(self) -> None:
        """End what is dead or too old."""
        now = time.monotonic()
        for idle in tuple(self._idle):
            if idle.watch.done() or now - idle.since >= self._max_age_s:
                self._idle.remove(idle)
                await self._dispose(idle)

    async def _dispose(self, idle: _Idle) -> None:
        if idle.watch.done():
            self.counts.died += 1
        else:
            self.counts.aged += 1
            idle.watch.cancel()
        await idle.jail.end()
