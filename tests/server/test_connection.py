"""Connections: how long a caller may hold one on which he asks for nothing."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.server.scripted import Served, until

Serve = Callable[..., Any]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
REFUSED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
WITHIN_S = 60.0  # far above the bounds under test, on a busy machine too


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_unix_connection(served.socket)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Return the status line of an answer, once it has come with its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    await reader.readexactly(int(length))
    return head.split(b"\r\n")[0]


async def is_ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(WITHIN_S):
        return await reader.read() == b""


@pytest.mark.parametrize("begun", [b"", b"GET /health HTTP/1.1\r\nHost: "])
async def test_a_connection_on_which_no_request_comes_is_ended(serve: Serve, begun: bytes) -> None:
    served = await serve(head_s=0.1)
    async with connected(served) as (reader, writer):
        writer.write(begun)
        assert await is_ended(reader)


async def test_bytes_that_come_one_by_one_do_not_hold_a_connection(serve: Serve) -> None:
    served = await serve(head_s=0.1)
    async with connected(served) as (reader, writer):
        ended = asyncio.create_task(is_ended(reader))
        writer.write(b"GET /health HTTP/1.1\r\nX: ")
        while not ended.done():
            writer.write(b"x")
            await asyncio.wait({ended}, timeout=0.02)
        assert await ended


@pytest.mark.parametrize(
    ("asked", "status", "more"),
    [
        (HEALTH, b"200", b"G"),
        (REFUSED, b"401", b"{"),
    ],
)
async def test_one_byte_behind_an_answer_does_not_hold_a_connection(
    serve: Serve, asked: bytes, status: bytes, more: bytes
) -> None:
    served = await serve(head_s=0.1, keep_alive_s=0.1)
    served.keys.add("ada", None)
    async with connected(served) as (reader, writer):
        writer.write(asked)
        assert status in await answer(reader)
        writer.write(more)
        assert await is_ended(reader)


@pytest.mark.parametrize("requests", [200, 300, 400])  # some of their answers wait where no buffer is full
async def test_answers_that_nobody_reads_do_not_hold_a_connection(serve: Serve, requests: int) -> None:
    served = await serve(head_s=0.1, keep_alive_s=0.1, stalled_s=0.2)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(served.socket))
        caller.sendall(HEALTH * requests)
        poll = select.poll()
        poll.register(caller, 0)
        await until(lambda: any(event & select.POLLHUP for _, event in poll.poll(0)), within_s=WITHIN_S)


async def test_a_head_that_comes_byte_by_byte_is_served_and_so_is_the_next(serve: Serve) -> None:
    served = await serve()
    async with connected(served) as (reader, writer):
        for _ in range(2):
            for byte in HEALTH:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert b"200" in await answer(reader)


async def test_the_rest_of_a_refused_body_may_take_its_time_as_long_as_it_comes(serve: Serve) -> None:
    served = await serve(head_s=0.5, keep_alive_s=0.5)
    served.keys.add("ada", None)
    async with connected(served) as (reader, writer):
        writer.write(REFUSED)
        assert b"401" in await answer(reader)
        for _ in range(10):  # longer than a second in all, each within the second that it has
            writer.write(b"x" * 100_000)
            await asyncio.sleep(0.12)
        writer.write(HEALTH)
        assert b"200" in await answer(reader)
