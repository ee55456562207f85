"""The servers that are compared, each started for one measurement and spoken to over its own API."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shlex
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import httpx

from bench.engine.counters import counters
from rlm_local.engine.launch import Launch, plan
from rlm_local.engine.process import EngineProcess
from rlm_local.errors import EngineUnavailable, RlmError
from tools.peers import Peer

_START_S = 120.0
_MOST_BYTES = 12 << 30  # of a peer's own memory: one that keeps states has taken 22 GiB, and the machine with it


class PeerFailed(RlmError):
    """A peer did not come to the end of a workload; its last words."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, in the server's own count of tokens."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None  # None where the server does not say


class Server(Protocol):
    at_once: bool  # False for a server that takes one request at a time

    async def write(self, prompt: str, *, out: int) -> Reply:
        """Continue a text, greedily, by exactly `out` tokens."""
        ...

    async def choose(self, prompt: str, labels: Sequence[str], *, most: int) -> Reply:
        """Continue a text by one of the labels, of which the longest has `most` tokens."""
        ...


class Ours:
    """Our engine through its unix socket."""

    at_once = True

    def __init__(self, client: httpx.AsyncClient, launch: Launch) -> None:
        self._client = client
        self.launch = launch

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await _post(self._client, path, body)

    async def write(self, prompt: str, *, out: int, **more: Any) -> Reply:
        return _reply(await self.complete(prompt, max_tokens=out, ignore_eos=True, **more))

    async def choose(self, prompt: str, labels: Sequence[str], *, most: int) -> Reply:
        body = {"max_tokens": most, "structured_outputs": {"choice": list(labels)}}
        return _reply(await self.complete(prompt, **body))

    async def complete(self, prompt: str, **body: Any) -> dict[str, Any]:
        return await self.post("/v1/completions", {"prompt": prompt, "temperature": 0, **body})

    async def counters(self) -> dict[str, float]:
        """Return what it has counted; see bench.engine.counters."""
        return await counters(self._client)

    async def moments(self, prompt: str, *, out: int) -> list[float]:
        """Return when each piece of a reply came, by the clock of time.perf_counter."""
        body = {"prompt": prompt, "max_tokens": out, "temperature": 0, "ignore_eos": True, "stream": True}
        async with self._client.stream("POST", "/v1/completions", json=body) as response:
            return [time.perf_counter() async for line in response.aiter_lines() if line.startswith("data: {")]


@asynccontextmanager
async def our_engine(weights: Path, model: str, *, window: int, cells: int | None = None) -> AsyncIterator[Ours]:
    """Run our engine as the product does; cells: of its memory, by default as many as the product would take."""
    with TemporaryDirectory(prefix="rlm-bench-") as folder:
        launch = plan(
            weights, model, window_tokens=window, runtime_dir=Path(folder), kv_tokens=cells, threads=None, log=None
        )
        process = EngineProcess(launch)
        try:
            await (await process.ready()).close()
            transport = httpx.AsyncHTTPTransport(uds=str(process.socket), limits=httpx.Limits(max_connections=None))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://engine", timeout=None, trust_env=False
            ) as client:
                yield Ours(client, launch)
        finally:
            await process.stop()


@dataclass(frozen=True, slots=True)
class Settings:
    """How a peer is started: its command line beyond model and port, and what its environment says."""

    name: str  # what is particular about it
    arguments: str
    environ: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([*(f"{name}={value}" for name, value in self.environ.items()), self.arguments])


class LlamaServer:
    """llama-server through its own /completion, which says what it reused."""

    at_once = True

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def write(self, prompt: str, *, out: int) -> Reply:
        return await self._complete(prompt, n_predict=out, ignore_eos=True)

    async def choose(self, prompt: str, labels: Sequence[str], *, most: int) -> Reply:
        grammar = "root ::= " + " | ".join(json.dumps(label) for label in labels)
        return await self._complete(prompt, n_predict=most, grammar=grammar)

    async def _complete(self, prompt: str, **more: Any) -> Reply:
        body = {"prompt": prompt, "temperature": 0, "cache_prompt": True, **more}
        said = await _post(self._client, "/completion", body)
        timings = said["timings"]
        cached = int(timings["cache_n"])
        return Reply(said["content"], cached + int(timings["prompt_n"]), int(timings["predicted_n"]), cached)


class LlamaCppServer:
    """llama_cpp.server, which computes one request at a time and keeps the last one's prompt."""

    at_once = False

    def __init__(self, client: httpx.AsyncClient, ends: frozenset[int]) -> None:
        self._client = client
        self._never = {str(token): -100 for token in sorted(ends)}

    async def write(self, prompt: str, *, out: int) -> Reply:
        # It has no ignore_eos; a bias does the same.
        body = {"logit_bias": self._never, "logit_bias_type": "input_ids", "max_tokens": out}
        return _reply(await _post(self._client, "/v1/completions", {"prompt": prompt, "temperature": 0, **body}))

    async def choose(self, prompt: str, labels: Sequence[str], *, most: int) -> Reply:
        grammar = "root ::= " + " | ".join(json.dumps(label) for label in labels)
        body = {"prompt": prompt, "temperature": 0, "max_tokens": most, "grammar": grammar}
        return _reply(await _post(self._client, "/v1/completions", body))


@asynccontextmanager
async def started(
    peer: Peer, weights: Path, settings: Settings, *, ends: frozenset[int]
) -> AsyncIterator[LlamaServer | LlamaCppServer]:
    """Run a peer on loopback for the length of the block.

    Raises EngineUnavailable when it does not start, PeerFailed when it ends or fails in the block; both tell its last
    words.
    """
    port = _free_port()
    with TemporaryDirectory(prefix="rlm-bench-") as folder:
        said = Path(folder) / "log"
        process = _process(peer, weights, settings, port, said)
        try:
            url, unlimited = f"http://127.0.0.1:{port}", httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=url, timeout=None, trust_env=False, limits=unlimited) as client:
                is_native = peer.name == "llama-server"
                if not await _answers(client, process, "/health" if is_native else "/v1/models"):
                    raise EngineUnavailable(f"{peer.name} {settings} does not answer; it said last: {_tail(said)}")
                try:
                    yield LlamaServer(client) if is_native else LlamaCppServer(client, ends)
                except (httpx.TransportError, EngineUnavailable) as error:
                    raise PeerFailed(f"{type(error).__name__}: {error}; it said last: {_tail(said)}") from error
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _process(peer: Peer, weights: Path, settings: Settings, port: int, said: Path) -> subprocess.Popen[bytes]:
    argv = [*peer.argv, "--model", str(weights), "--host", "127.0.0.1", "--port", str(port)]
    argv += shlex.split(settings.arguments)
    environ = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    with said.open("wb") as log:
        process = subprocess.Popen(
            argv,
            env={**environ, **settings.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=said.parent,
        )
    resource.prlimit(process.pid, resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
    return process


async def _answers(client: httpx.AsyncClient, process: subprocess.Popen[bytes], path: str) -> bool:
    """Wait until the server does; False when it has ended instead, or takes longer than it may."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(httpx.TransportError):  # not listening yet
            if (await client.get(path)).status_code == 200:
                return True
        await asyncio.sleep(0.1)
    return False


def _tail(said: Path) -> str:
    return " / ".join(said.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


async def _post(client: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=body)
    if response.status_code != 200:
        raise EngineUnavailable(f"{path} answered {response.status_code}: {response.text[:300]}")
    answer: dict[str, Any] = response.json()
    return answer


def _reply(answer: Mapping[str, Any]) -> Reply:
    usage = answer["usage"]
    details = usage.get("prompt_tokens_details") or {}
    text = answer["choices"][0]["text"]
    return Reply(text, usage["prompt_tokens"], usage["completion_tokens"], details.get("cached_tokens"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
