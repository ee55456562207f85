"""What goes wrong around the engine: each fault is one clear error to whom it concerns, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.engine.counters import counters
from rlm_local.engine.client import HttpEngine
from rlm_local.engine.launch import Launch, launch_llama
from rlm_local.engine.process import EngineProcess
from rlm_local.errors import EngineError
from rlm_local.types import Completion, Message, Role
from tests.engine import toy_models

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

Until = Callable[..., Awaitable[None]]
STALLED_S = 2.0


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_models.sliding(tmp_path_factory.mktemp("toy") / "toy.gguf")


def launch(weights: Path, runtime: Path):
    return launch_llama(weights, "toy", window_tokens=1024, runtime_dir=runtime, threads=1)


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def copied(file: Path, to: Path, damage: Callable[[bytes], bytes]) -> Path:
    to.write_bytes(damage(file.read_bytes()))
    return to


def swapped(raw: bytes, old: bytes, new: bytes) -> bytes:
    assert raw.count(old) == 1
    assert len(old) == len(new)
    return raw.replace(old, new)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda raw: raw[:300], "toy.gguf is truncated or damaged: its header does not end"),
        (lambda raw: raw[:30_000], "toy.gguf is truncated or damaged"),
        (lambda raw: raw[:-1000], "toy.gguf is truncated or damaged"),
        (lambda raw: raw[:4] + b"\x63" + raw[5:], "toy.gguf is GGUF version 99"),
        (lambda raw: swapped(raw, b"blk.3.ffn_gate.weight", b"blk.3.ffn_date.weight"), "blk.3.ffn_gate.weight"),
        (lambda raw: swapped(raw, b"gemma2.block_count", b"gemma2.block_cound"), "does not say its gemma2.block_count"),
        (lambda raw: raw.replace(b"gemma2", b"gemma0"), "unknown model architecture: 'gemma0'"),
        (lambda raw: b"version https://git-lfs.github.com/spec/v1\n", "toy.gguf is not a GGUF file"),
    ],
    ids=["in header", "in tensor list", "in tensors", "version", "tensor", "key", "architecture", "pointer"],
)
async def test_a_broken_file_is_one_sentence_that_names_it(
    damage: Callable[[bytes], bytes], said: str, toy: Path, tmp_path: Path
) -> None:
    broken = copied(toy, tmp_path / "toy.gguf", damage)
    with pytest.raises(EngineError) as raised:
        async with launch(broken, tmp_path / "run"):
            pass
    assert said in str(raised.value)
    assert "toy.gguf" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert entries(tmp_path / "run") == []


async def test_a_kill_with_requests_under_way_and_waiting_is_answered_by_the_next_process(
    toy: Path, tmp_path: Path, until: Until, cpu_s
) -> None:
    """60 requests: some run, the others wait; none has been given anything, so each is asked again."""
    questions = [
        Completion((Message(Role.USER, f"Question {i}?"),), 900, grammar="start: /[a-z]{800}/") for i in range(60)
    ]
    async with launch(toy, tmp_path) as engine:
        first, start = engine.pid, cpu_s(engine.pid)
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            replies = [group.create_task(engine.complete(question)) for question in questions]
            await until(lambda: cpu_s(first) > start + 0.3, within_s=60)
            assert not any(reply.done() for reply in replies)
            os.kill(first, signal.SIGKILL)
        assert [len(reply.result().text) for reply in replies] == [800] * 60
        assert engine.pid != first
    assert entries(tmp_path) == []


class Impatient(Launch):
    """An engine that waits STALLED_S for a reader."""

    def argv(self, socket: Path, lifeline_fd: int) -> list[str]:
        return [*super().argv(socket, lifeline_fd), "--stalled-s", str(STALLED_S)]


class Server:
    """One engine process and its socket, for clients that behave as they like."""

    def __init__(self, process: EngineProcess, client: httpx.AsyncClient) -> None:
        self.process = process
        self.client = client
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.process.socket), limit=1024)
        self._writers.append(writer)
        return reader, writer

    async def connect(self, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.open()
        content = json.dumps(body).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: e\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        await writer.drain()
        return reader, writer

    def disconnect(self) -> None:
        """Ends each connection, also those of a test that failed: an open one would fail the next test."""
        while self._writers:
            self._writers.pop().close()

    async def at_rest(self, within_s: float) -> None:
        """Wait until no request is under way. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while (await counters(self.client))["requests_running"]:  # noqa: ASYNC110 it happens in another process
                await asyncio.sleep(0.01)

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def serving(weights: Path, runtime: Path) -> AsyncIterator[Server]:
    process = EngineProcess(Impatient(weights, "toy", 1024, 4096, 4096, 1, runtime, None))
    engine: HttpEngine | None = None
    try:
        engine = await process.ready()
        transport = httpx.AsyncHTTPTransport(uds=str(process.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=60) as client:
            server = Server(process, client)
            try:
                yield server
            finally:
                server.disconnect()
    finally:
        if engine is not None:
            await engine.close()
        await process.stop()


SHORT = {"prompt": "short", "max_tokens": 2, "ignore_eos": True}
# Each token's event is 1 kB or more: several times what the socket and uvicorn buffer.
FLOOD = {"prompt": "flood", "max_tokens": 900, "ignore_eos": True, "stream": True, "logprobs": 20}


def hung_up(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end has closed the connection; says so while bytes of it are still unread."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), 0)  # POLLHUP is always reported
    return any(event & select.POLLHUP for _, event in poll.poll(0))


async def test_streams_that_nobody_reads_hold_nobody_up_and_keep_no_memory(
    toy: Path, tmp_path: Path, until: Until
) -> None:
    async with serving(toy, tmp_path) as server:

        async def stalled(count: int) -> None:
            """Streams of which not a byte is read until the engine gives them up."""
            connections = [await server.connect(FLOOD) for _ in range(count)]
            began = asyncio.get_running_loop().time()
            assert (await server.client.post("/v1/completions", json=SHORT)).status_code == 200
            assert asyncio.get_running_loop().time() - began < 20
            # A byte read before the engine hangs up would make room, and the engine would go on writing.
            await until(lambda: all(hung_up(writer) for _, writer in connections), within_s=120)
            for reader, _ in connections:
                told = await asyncio.wait_for(reader.read(), 30)
                assert told.startswith(b"HTTP/1.1 200")
                assert not told.endswith(b"[DONE]\n\n\r\n0\r\n\r\n")
            await server.at_rest(within_s=5)  # far less than a reply takes: it is ended, not left to run out
            server.disconnect()

        await stalled(8)
        once = server.rss_bytes()
        for _ in range(3):
            await stalled(8)
        assert server.rss_bytes() < once + (12 << 20)  # 24 replies that had stayed would be 40 MB and more
        assert (await server.client.post("/v1/completions", json=SHORT)).status_code == 200


async def test_a_slow_reader_gets_the_whole_stream(toy: Path, tmp_path: Path) -> None:
    async with serving(toy, tmp_path) as server:
        reader, writer = await server.connect(FLOOD)
        told = b""
        while chunk := await reader.read(60_000):
            told += chunk
            await asyncio.sleep(STALLED_S / 20)
        writer.close()
        assert told.count(b'"finish_reason": "length"') == 1
        assert b"data: [DONE]" in told


async def test_two_hundred_connections_at_once_are_all_answered(toy: Path, tmp_path: Path) -> None:
    async with serving(toy, tmp_path) as server:
        for _ in range(50):
            await server.open()  # and says nothing

        async def asked(i: int) -> bytes:
            reader, _ = await server.connect(SHORT | {"prompt": f"Question {i}"})
            return await asyncio.wait_for(reader.read(), 120)

        answers = await asyncio.gather(*(asked(i) for i in range(200)))
        assert [answer.split(b"\r\n", 1)[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * 200
        await server.at_rest(within_s=30)  # a step counts at its end, and its replies have gone out by then
