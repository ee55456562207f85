"""Who is cancelled, at whatever moment, leaves no connection behind: none that counts as in use, no open socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from rlm_local.engine.transport import CleanTransport

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = [b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"]
MOST_STEPS = 400  # of the event loop, more than a request takes


class Server:
    """Answers every request in pieces, and counts who is connected."""

    def __init__(self) -> None:
        self.connected = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ANSWER)
                for piece in PIECES:
                    await asyncio.sleep(0)
                    writer.write(piece)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.connected -= 1
            writer.close()


@asynccontextmanager
async def talking(folder: Path) -> AsyncIterator[tuple[Server, httpx.AsyncHTTPTransport, httpx.AsyncClient]]:
    server = Server()
    async with await asyncio.start_unix_server(server, folder / "s"):
        inner = httpx.AsyncHTTPTransport(uds=str(folder / "s"))
        async with httpx.AsyncClient(transport=CleanTransport(inner), base_url="http://s", timeout=None) as client:
            yield server, inner, client


async def whole(client: httpx.AsyncClient) -> str:
    return (await client.get("/")).text


async def streamed(client: httpx.AsyncClient) -> str:
    async with client.stream("GET", "/") as response:
        return b"".join([piece async for piece in response.aiter_raw()]).decode()


async def left(client: httpx.AsyncClient) -> str:
    async with client.stream("GET", "/") as response:
        async for piece in response.aiter_raw():
            return "onetwo" if b"onetwo".startswith(piece) else piece.decode()
    return ""


@pytest.mark.parametrize("ask", [whole, streamed, left])
async def test_a_caller_who_is_cancelled_at_any_step_leaves_no_connection_in_use(ask, tmp_path: Path) -> None:
    cancelled = 0
    async with talking(tmp_path) as (server, inner, client):
        for steps in range(MOST_STEPS):
            task = asyncio.create_task(ask(client))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            (end,) = await asyncio.gather(task, return_exceptions=True)
            for _ in range(50):  # for what ends in a task of its own
                await asyncio.sleep(0)
            assert [each.info() for each in inner._pool.connections if "ACTIVE" in each.info()] == [], steps
            if not isinstance(end, asyncio.CancelledError):
                assert end == "onetwo"
                break
            cancelled += 1
        assert await whole(client) == "onetwo"  # and the others are served
    assert cancelled > 5
    async with asyncio.timeout(60):
        while server.connected:  # noqa: ASYNC110 the server's own tasks count
            await asyncio.sleep(0.01)


async def test_an_error_of_the_connection_is_the_callers(tmp_path: Path) -> None:
    async with talking(tmp_path) as (_, _, client):
        assert await whole(client) == "onetwo"
    async with httpx.AsyncClient(
        transport=CleanTransport(httpx.AsyncHTTPTransport(uds=str(tmp_path / "nobody"))), base_url="http://s"
    ) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
