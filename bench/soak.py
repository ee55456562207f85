"""`python -m bench soak`: thousands of mixed requests, hang-ups, deadlines, nonsense and kill -9 against one engine.

First the part with kills: some requests under way, the process killed among them, the next one asked. Then a part
in one process, whose memory is watched: a kill would give every process a fresh one, and hide what grows.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from bench.engine.counters import counters
from bench.processes import rss_bytes
from bench.soak_report import Calm, Ended, Outcome, SoakResult
from bench.soak_requests import Mix, Shot
from rlm_local.engine.launch import LlamaEngine, launch_llama
from rlm_local.errors import EngineError
from rlm_local.types import Completion, Message, Role

WINDOW = 1024  # of one request, and cells of the engine: one request can reach all of them
AT_ONCE = 24  # requests under way; the others of a wave wait in the client
KILL_WAVE = 40  # requests among which one kill falls
CALM_WAVE = 60  # requests between two looks at the memory
BOUND_S = 180.0  # in which every request must have ended, one that a kill repeats too
FILLER = " a"
CALM_S = 20.0  # in which an engine without requests must have come to rest


@dataclass
class Soak:
    """One run over one engine. Not for use twice."""

    engine: LlamaEngine
    mix: Mix
    say: Callable[[str], None]
    outcomes: list[Outcome] = field(default_factory=list)
    calms: list[Calm] = field(default_factory=list)
    kills: int = 0

    async def go(self, requests: int, kills: int, seed: int) -> None:
        dice = random.Random(seed + 1)
        for _ in range(kills):
            await self._wave(KILL_WAVE, kill_after=dice.randint(1, KILL_WAVE - 1))
            self.say(f"kill {self.kills} of {kills}, {len(self.outcomes)} requests")
        while len(self.outcomes) < requests:
            await self._wave(min(CALM_WAVE, requests - len(self.outcomes)), kill_after=None)
            self.say(f"{len(self.outcomes)} of {requests} requests, {self.calms[-1].rss_bytes >> 20} MiB")

    async def _wave(self, count: int, *, kill_after: int | None) -> None:
        """Send requests, kill the process when so many of them have ended, and look at it when it is calm."""
        slots, pid = asyncio.Semaphore(AT_ONCE), self.engine.pid
        ended = 0
        async with connected(self.engine.socket) as client:

            async def one(shot: Shot) -> None:
                nonlocal ended
                async with slots:
                    outcome = await self._fire(client, shot, killed=lambda: self.engine.pid != pid or ended_by_us)
                self.outcomes.append(outcome)
                ended += 1
                if ended == kill_after:
                    kill()

            ended_by_us = False

            def kill() -> None:
                nonlocal ended_by_us
                ended_by_us = True
                os.kill(pid, signal.SIGKILL)
                self.kills += 1

            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(one(self.mix.next()))
        await self.engine.count_tokens("Are you there?")  # the supervisor starts a new process where there is none
        await self._look(after_kill=kill_after is not None)

    async def _fire(self, client: httpx.AsyncClient, shot: Shot, *, killed: Callable[[], bool]) -> Outcome:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(BOUND_S):
                how, detail = await self._outcome(client, shot)
        except TimeoutError:
            how, detail = Ended.UNANSWERED, f"nothing after {BOUND_S} s"
        except (httpx.TransportError, EngineError) as error:
            # The supervised one is asked again when its process dies, so it has no such excuse.
            lost = killed() and not shot.supervised
            how, detail = (Ended.LOST if lost else Ended.WRONG), f"{type(error).__name__}: {error}"
        return Outcome(shot.kind, how, time.perf_counter() - began, detail)

    async def _outcome(self, client: httpx.AsyncClient, shot: Shot) -> tuple[Ended, str]:
        if shot.supervised:
            assert isinstance(shot.body, dict)  # as Mix makes them
            messages = (Message(Role.USER, shot.body["messages"][0]["content"]),)
            await self.engine.complete(Completion(messages, shot.body["max_tokens"]))
            return Ended.ANSWERED, ""
        sending = asyncio.ensure_future(send(client, shot))
        try:
            async with asyncio.timeout(shot.hang_up_s):
                return await sending
        except TimeoutError:
            if shot.hang_up_s is None:
                raise
            return Ended.HUNG_UP, ""

    async def _look(self, *, after_kill: bool) -> None:
        """Wait until nothing runs, then compare the account of the cells with what dropping them all frees."""
        async with connected(self.engine.socket) as client:
            began, rest = time.perf_counter(), await counters(client)
            while (rest["requests_running"] or rest["requests_waiting"]) and time.perf_counter() < began + CALM_S:
                await asyncio.sleep(0.02)
                rest = await counters(client)
            rss = rss_bytes(self.engine.pid)
            freed = (await client.post("/reset_prefix_cache", json={})).json()["freed_tokens"]
            # An account that is right here and wrong in llama.cpp would show now: this takes all cells but one or two.
            each = await self.engine.count_tokens(FILLER)
            probe = await client.post("/v1/completions", json=full_house(int(rest["cells"]), each))
            served = probe.status_code == httpx.codes.OK and probe.json()["usage"]["prompt_tokens"]
            after = (await client.post("/reset_prefix_cache", json={})).json()["freed_tokens"]
            self.calms.append(
                Calm(
                    requests=len(self.outcomes),
                    pid=self.engine.pid,
                    running=int(rest["requests_running"] + rest["requests_waiting"]),
                    cells_used=int(rest["cells_used"] + rest["shelved_tokens"]),
                    cells_freed=int(freed),
                    all_cells=int(rest["cells"]),
                    all_cells_served=served is not False and int(rest["cells"]) - 2 <= served == after,
                    rss_bytes=rss,
                    after_kill=after_kill,
                )
            )


async def send(client: httpx.AsyncClient, shot: Shot) -> tuple[Ended, str]:
    """Send one request and judge what comes. Raises httpx.TransportError when the connection breaks."""
    content = shot.body if isinstance(shot.body, bytes) else json.dumps(shot.body).encode()
    async with client.stream("POST", shot.path, content=content) as response:
        raw = await response.aread()
        status = response.status_code
    if status not in shot.statuses:
        return Ended.WRONG, f"status {status}, expected {sorted(shot.statuses)}: {raw[:200]!r}"
    if status != httpx.codes.OK:
        error = json.loads(raw).get("error", {})
        if set(error) != {"message", "type", "code"}:
            return Ended.WRONG, f"an error without OpenAI's shape: {raw[:200]!r}"
        return (Ended.DEADLINE if status == httpx.codes.REQUEST_TIMEOUT else Ended.REFUSED), ""
    if not shot.stream:
        answer = json.loads(raw)
        texts = [c["message"]["content"] if "message" in c else c["text"] for c in answer["choices"]]
        return _judged(shot, texts)
    lines = [line.removeprefix("data: ") for line in raw.decode().split("\n\n") if line]
    last = json.loads(lines[-1]) if lines[-1] != "[DONE]" else None
    if last is not None:
        late = isinstance(last, dict) and last.get("error", {}).get("code") == httpx.codes.REQUEST_TIMEOUT
        return (Ended.DEADLINE, "") if late and 408 in shot.statuses else (Ended.WRONG, f"ended with {lines[-1][:200]}")
    return _judged(shot, _told(lines[:-1], shot.choices))


def _told(lines: list[str], choices: int) -> list[str]:
    """Return the texts of a stream's choices."""
    texts = [""] * choices
    for line in lines:
        for choice in json.loads(line)["choices"]:
            piece = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
            texts[choice["index"]] += piece
    return texts


def _judged(shot: Shot, texts: list[str]) -> tuple[Ended, str]:
    wrong = f"{len(texts)} choices, asked for {shot.choices}" if len(texts) != shot.choices else shot.judge(texts)
    return (Ended.WRONG, wrong) if wrong else (Ended.ANSWERED, "")


def full_house(cells: int, tokens_each: int) -> dict[str, Any]:
    """Return a request that takes every cell but the one or two that a window of as many tokens cannot reach."""
    return {"prompt": FILLER * ((cells - 1) // tokens_each), "max_tokens": 1, "temperature": 0}


@asynccontextmanager
async def connected(socket: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=httpx.Limits(max_keepalive_connections=4))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=None) as client:
        yield client


async def soak(
    weights: Path, model: str, *, requests: int, kills: int, seed: int, say: Callable[[str], None]
) -> SoakResult:
    """Start an engine and soak it. Whoever asks for kills asks for KILL_WAVE requests each, within `requests`."""
    with TemporaryDirectory(prefix="rlm-soak-") as folder:
        log = Path(folder) / "engine.log"
        async with launch_llama(
            weights, model, window_tokens=WINDOW, kv_tokens=WINDOW, runtime_dir=Path(folder), log=log
        ) as engine:
            run = Soak(engine, Mix(seed, WINDOW), say)
            began = time.perf_counter()
            await run.go(requests, kills, seed)
            seconds = time.perf_counter() - began
        said = log.read_text().splitlines() if log.exists() else []
    return SoakResult(run.outcomes, run.calms, run.kills, seconds, [line for line in said if line])
