"""`python -m bench load`: hundreds of clients of many tenants at one server, while its engine is killed.

Everything is real and a process of its own: `rlm-local serve` on a TCP port of loopback with its engine and its jails,
and who asks for /health. A client that is told 429 comes again when Retry-After says so.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.engine.counters import counters_behind
from bench.load_client import FILES, RUNS, Caller
from bench.load_report import Ended, LoadResult, Outcome, Sample
from bench.load_requests import Shot, Tenant, deal, foreign, new_canary
from bench.processes import (
    adopting_orphans,
    below,
    command_of,
    descriptors,
    die_with_parent,
    kill_below,
    living_below,
    rss_bytes,
)
from bench.provenance import ROOT
from rlm_local.server.database import Database
from rlm_local.server.keys import Keys

START_S = 900.0  # for a server to answer, on a machine that is busy with other things
REST_S = 120.0  # in which a server without callers must have come to rest
KEPT_S = 6.0  # httpx, here and in the server, keeps a connection for 5 s
SAMPLE_S = 1.0
TELL_S = 20.0
HEALTH_PERIOD_S = 0.05
KILLED_UP_TO = 0.6  # of all requests; the rest is one engine's, whose memory can be compared
_ENGINE = "rlm_local.engine.llama.service"


@dataclass(frozen=True, slots=True)
class Plan:
    requests: int
    clients: int
    tenants: int
    kills: int
    seed: int
    model: str


@dataclass
class Load:
    """One load on one server. Not for use twice."""

    plan: Plan
    server: subprocess.Popen[bytes]
    caller: Caller
    say: Callable[[str], None]
    outcomes: list[Outcome] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    kills: list[int] = field(default_factory=list)  # requests that had ended by then
    open: Counter[str] = field(default_factory=Counter)  # what has been asked and has not ended, by kind

    async def go(self) -> None:
        """Send everything; return when all of it has ended."""
        waiting = iter(deal(self.plan.requests, self.plan.tenants, self.plan.seed))

        async def client() -> None:
            for shot in waiting:
                self.open[shot.kind] += 1
                self.outcomes.append(await self.caller.fire(shot))
                self.open[shot.kind] -= 1

        watching = [asyncio.create_task(work) for work in (self._watch(), self._kill(), self._tell())]
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.plan.clients):
                    group.create_task(client())
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def warm_up(self) -> None:
        """Have every tenant bring his document, and each kind of request be answered once."""
        for number, tenant in enumerate(self.caller.tenants):
            self.caller.files[number] = await self.caller.upload(tenant)
        one_of_each = {shot.kind: shot for shot in reversed(deal(1_000, 1, self.plan.seed))}
        for shot in one_of_each.values():
            outcome = await self.caller.fire(shot)
            if outcome.ended in (Ended.WRONG, Ended.UNANSWERED, Ended.ERROR):
                raise RuntimeError(f"{outcome.kind} before the load: {outcome.ended}, {outcome.detail}")

    # --- beside the requests ------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            with suppress(OSError, httpx.TransportError):  # between two engines
                self.samples.append(await self.sample())
            await asyncio.sleep(SAMPLE_S)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            open_now = ", ".join(f"{count} {kind}" for kind, count in self.open.most_common() if count)
            ended = f"{len(self.outcomes)} of {self.plan.requests} requests, {len(self.kills)} kills"
            self.say(
                f"{ended}; open: {open_now or 'none'}; runs and chats running and waiting: {await self._under_way()}"
            )

    async def sample(self) -> Sample:
        """Return what server and engine hold now. Raises OSError or httpx.TransportError where there is no engine."""
        pid = self.server.pid
        processes = list(below(pid))
        engine = next((each for each in processes if _is_engine(command_of(each))), None)
        if engine is None:
            raise ProcessLookupError("no engine")
        held = descriptors(engine)  # before it is asked, by a connection that it may hold for a moment longer
        return Sample(
            requests=len(self.outcomes),
            kills=len(self.kills),
            server_rss_bytes=rss_bytes(pid),
            server_descriptors=descriptors(pid),
            engine_rss_bytes=rss_bytes(engine),
            engine_shelved_bytes=await _shelved_bytes(command_of(engine)),
            engine_descriptors=held,
            processes=len(processes),
        )

    async def _kill(self) -> None:
        """Kill the engine at as many moments as are asked for: those at which so many requests have ended."""
        dice = random.Random(self.plan.seed + 1)
        moments = sorted(dice.sample(range(1, max(2, int(self.plan.requests * KILLED_UP_TO))), self.plan.kills))
        for moment in moments:
            # Another task counts, and between two engines there is none to kill.
            while len(self.outcomes) < moment or kill_below(self.server.pid, _is_engine) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            self.kills.append(len(self.outcomes))

    async def rest(self) -> Sample:
        """Wait until nothing is under way; return what is held when what is kept for a while was let go of too."""
        async with asyncio.timeout(REST_S):
            while any(await self._under_way()):  # noqa: ASYNC110 it is the server's
                await asyncio.sleep(0.5)
        # A connection that was kept for the next request is closed when one comes after this time, not before.
        await asyncio.sleep(KEPT_S)
        await self.caller.fire(Shot("direct", 0, 0))
        await asyncio.sleep(1.0)
        return await self.sample()

    async def _under_way(self) -> list[int]:
        told = (await self.caller.http.get("/ready")).json()
        return [told[work][state] for work in ("runs", "direct") for state in ("running", "waiting")]

    async def kept(self) -> list[str]:
        """Return what is wrong with the files and runs that each tenant finds at the end."""
        faults = []
        for number, tenant in enumerate(self.caller.tenants):
            files = await self.caller.http.get(FILES, headers=tenant.headers)
            runs = await self.caller.http.get(f"{RUNS}?limit=1000", headers=tenant.headers)
            found = {each["id"] for answer in (files, runs) for each in answer.json()["data"]}
            expected = {self.caller.files[number], *(run for run, owner in self.caller.runs.items() if owner == number)}
            if found != expected:
                faults.append(f"{tenant.name} finds {sorted(found)}, but has {sorted(expected)}")
            others = foreign(runs.text, tenant, self.caller.tenants)
            faults += [f"{tenant.name}'s list of runs holds the canary of {other}" for other in others]
        return faults


async def load(plan: Plan, folder: Path, say: Callable[[str], None]) -> LoadResult:
    """Start a server in a folder of its own and put the load on it.

    It is started, as everything, by this process, which becomes the parent of what others leave behind.
    """
    before_us = living_below(os.getpid())
    with adopting_orphans():
        tenants = _made(folder / "state", plan.tenants)
        log = folder / "log"
        with running_server(plan.model, folder / "state", log) as server:
            address = address_of(server, log)
            async with _client(address, plan.clients) as http:
                run = Load(plan, server, Caller(http, plan.model, tenants), say)
                await run.warm_up()
                before = await run.rest()
                say(f"warm: {before}")
                began = time.perf_counter()
                with _health(address, folder / "health"):
                    await run.go()
                    seconds = time.perf_counter() - began
                after = await run.rest()
                faults = await run.kept()
            server.send_signal(signal.SIGTERM)
            if code := server.wait(REST_S):
                faults.append(f"the server ended with {code}")
        said = log.read_text(encoding="utf-8")
        faults += [f"the server's log: {line[:300]}" for line in said.splitlines() if '"event":"failure"' in line]
        faults += [f"the server's log holds {each.name}'s canary" for each in tenants if each.canary in said]
        faults += [f"left behind: {each[:100]}" for each in await _left(before_us)]
    return LoadResult(
        outcomes=run.outcomes,
        kills=run.kills,
        health=(folder / "health").read_text(encoding="utf-8").split("\n")[:-1],
        samples=run.samples,
        before=before,
        after=after,
        seconds=seconds,
        found=faults,
        clients=plan.clients,
    )


def _is_engine(command: str) -> bool:
    return _ENGINE in command


async def _shelved_bytes(command: str) -> int:
    """Return what an engine of this command line holds outside of its cells, by its own count."""
    words = command.split()
    socket = Path(words[words.index("--socket") + 1])
    return int((await counters_behind(socket))["shelved_bytes"])


def _made(state: Path, count: int) -> list[Tenant]:
    """Make keys and return their tenants."""
    with closing(Database(state)) as database:
        keys = Keys(database)
        return [Tenant(name, keys.add(name, None)[1], new_canary()) for name in (f"t{n}" for n in range(1, count + 1))]


@contextmanager
def running_server(model: str, state: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "rlm_local", "serve", "--model", model, "--port", "0", "--state", str(state)]
    with log.open("ab") as said:
        server = subprocess.Popen(
            command, cwd=ROOT, stdout=said, stderr=said, start_new_session=True, preexec_fn=die_with_parent
        )
    try:
        yield server
    finally:
        server.kill()
        server.wait()


def address_of(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        _, served, rest = log.read_text(encoding="utf-8").partition(" is served at http://")
        if served and "\n" in rest:
            return rest.split("/")[0]
        time.sleep(0.1)
    raise RuntimeError(f"the server did not answer within {START_S} s, or ended: {log.read_text(encoding='utf-8')}")


@asynccontextmanager
async def _client(address: str, clients: int) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=None, limits=limits, trust_env=False) as http:
        yield http


@contextmanager
def _health(address: str, told: Path) -> Iterator[None]:
    host, _, port = address.rpartition(":")
    with told.open("wb") as out:
        command = [sys.executable, "-m", "bench.load_health", host, port, str(HEALTH_PERIOD_S)]
        asking = subprocess.Popen(command, cwd=ROOT, stdout=out, preexec_fn=die_with_parent)
    try:
        yield
    finally:
        asking.kill()
        asking.wait()


async def _left(before: Container[int]) -> list[str]:
    """Return what lives below us and did not live before, when the server has ended, after some seconds of patience."""
    for _ in range(100):
        left = [command for pid, command in living_below(os.getpid()).items() if pid not in before]
        if not left:
            break
        await asyncio.sleep(0.1)
    return left
