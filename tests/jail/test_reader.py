"""The host takes from a jail's channel what somebody waits for, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from bench.jail.puppet import PuppetJail
from rlm_local.jail import wire
from rlm_local.jail.channel import JailEndedError

FRAME = wire.encode({"op": "waiting"}, max_bytes=1 << 10)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[PuppetJail, socket.socket]]:
    """A jail of the host's, and the worker's end of its channel."""

    async def play(channel: socket.socket, number: int) -> None:
        raise AssertionError("no cell is run")

    jail = PuppetJail(play, Counter())
    try:
        yield jail, jail._theirs
    finally:
        await jail.end()


async def rounds(count: int = 10) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_while_nobody_waits_stays_in_the_channel_and_keeps_no_loop_busy(
    ends: tuple[PuppetJail, socket.socket],
) -> None:
    jail, worker = ends
    worker.send(FRAME)
    assert await jail.receive() == {"op": "waiting"}
    worker.send(FRAME * 2)
    await rounds()
    assert not jail._channel._received
    assert not jail._channel._is_watched  # else the loop would be told of it again in each of its rounds
    for _ in range(2):
        assert await jail.receive() == {"op": "waiting"}


async def test_a_wait_that_is_given_up_takes_nothing_with_it(ends: tuple[PuppetJail, socket.socket]) -> None:
    jail, worker = ends
    waiting = asyncio.ensure_future(jail.receive())
    await rounds()
    worker.send(FRAME[:3])
    await rounds()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    worker.send(FRAME[3:])
    assert await jail.receive() == {"op": "waiting"}


async def test_frames_that_are_there_already_let_others_go_on(ends: tuple[PuppetJail, socket.socket]) -> None:
    jail, worker = ends
    worker.send(FRAME * 100)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(other())
    for _ in range(100):
        await jail.receive()
    beside.cancel()
    assert turns >= 100


async def test_an_end_is_told_to_whoever_waits(ends: tuple[PuppetJail, socket.socket]) -> None:
    jail, worker = ends
    waiting = asyncio.ensure_future(jail.receive())
    await rounds()
    worker.shutdown(socket.SHUT_WR)
    with pytest.raises(JailEndedError, match="closed its socket after 0 of 4 bytes"):
        await waiting
