"""A jail with nobody in it: the host's own reader, session and budgets, and a hand on the other end of the socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable

from rlm_local.jail import wire
from rlm_local.jail.launch import Started
from rlm_local.jail.process import Jail, Opening
from rlm_local.texts import memory_file

Play = Callable[[socket.socket, int], Awaitable[None]]
"""Writes what a worker would, when it is given a cell: the worker's end of the channel, and the cell's number."""


class _Nobody(subprocess.Popen[bytes]):
    """Stands for nsjail where no process is needed: it is us, and it is never ended."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.returncode = None

    def poll(self) -> None:
        return None

    def __del__(self) -> None:
        """There is nothing to wait for."""


class PuppetJail(Jail):
    """Everything that a Jail does with frames is done by Jail; ending it closes a socket and no process."""

    def __init__(self, play: Play, taken: Counter[str]) -> None:
        self._taken = taken
        ours, self._theirs = socket.socketpair()
        ours.setblocking(False)
        self._theirs.setblocking(False)
        super().__init__(Started(_Nobody(), ours, None, memory_file("log"), memory_file("stderr")))
        self._close_logs()
        self._is_over = False
        self._hand = asyncio.create_task(self._serve(play))

    async def receive(self) -> dict[str, wire.Json]:
        try:
            frame = await super().receive()
        except wire.WireError:
            self._taken["refused"] += 1
            raise
        self._taken["read"] += 1
        return frame

    def kill(self) -> None:
        with contextlib.suppress(OSError):  # it may be shut already
            self._theirs.shutdown(socket.SHUT_RDWR)

    async def end(self, *, keep_logs: bool = False) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._hand.cancel()
        await asyncio.gather(self._hand, return_exceptions=True)
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._channel.close()
        self._theirs.close()

    async def _serve(self, play: Play) -> None:
        """Take in frames from the host; for each cell let `play` write. Replies are read, and lead to nothing."""
        loop, playing = asyncio.get_running_loop(), None
        received = bytearray()
        try:
            while chunk := await loop.sock_recv(self._theirs, 1 << 16):
                received += chunk
                while len(received) >= wire.HEADER_BYTES:
                    whole = wire.HEADER_BYTES + int.from_bytes(received[: wire.HEADER_BYTES], "big")
                    if len(received) < whole:
                        break
                    frame = wire.decode(bytes(received[wire.HEADER_BYTES : whole]))
                    del received[:whole]
                    if frame["op"] == "exec" and isinstance(cell_id := frame["cell_id"], int):
                        playing = asyncio.create_task(_played(play, self._theirs, cell_id))
        except OSError:
            return  # the host hung up
        finally:
            if playing is not None:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)


async def _played(play: Play, channel: socket.socket, cell_id: int) -> None:
    try:
        await play(channel, cell_id)
    except (OSError, ValueError):
        return  # the host hung up in the middle


def puppets(play: Play, taken: Counter[str]) -> Callable[[Opening], Awaitable[Jail]]:
    """Return a source of jails for a session. taken: counts the frames that the host has read or refused to."""

    async def source(opening: Opening) -> Jail:
        return PuppetJail(play, taken)

    return source
