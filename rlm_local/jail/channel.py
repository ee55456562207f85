"""The host's end of a jail's socket: frames out whole, frames in when somebody waits for one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from rlm_local.jail import wire

_ASIDE_BYTES = 16 << 10  # a longer frame is read on a thread; this many bytes take 10 ms at worst
_RECEIVED_BYTES = 1 << 18  # at once


class JailEndedError(Exception):
    """The jail closed its socket: the worker, or nsjail, has died."""


class Channel:
    """One reader and any number of writers."""

    def __init__(self, host_end: socket.socket) -> None:
        self._socket = host_end
        self._write_lock = asyncio.Lock()
        self._received = bytearray()  # and not taken yet: a piece of one frame, or small frames
        self._waiter: asyncio.Future[bool] | None = None  # who waits for more
        self._is_watched = False  # whether the loop tells when there is more
        self.is_cut_off = False  # half of a frame was sent, so the other side is lost

    async def send(self, frame: Mapping[str, object], *, descriptor: int | None = None) -> None:
        """Write one frame, with a descriptor where one is given.

        Raises JailEndedError when nobody reads any more, wire.WireError when it is too large.
        """
        data = wire.encode(frame, max_bytes=wire.FROM_HOST_BYTES)
        try:
            async with self._write_lock:
                self.is_cut_off = True  # until the whole frame is there
                if descriptor is not None:
                    data = data[socket.send_fds(self._socket, [data], [descriptor]) :]
                await asyncio.get_running_loop().sock_sendall(self._socket, data)
                self.is_cut_off = False
        except OSError as error:
            raise JailEndedError(f"the jail closed its socket: {error}") from error

    async def receive(self) -> dict[str, wire.Json]:
        """Return the next frame. Raises JailEndedError at the end, WireError for what is no frame."""
        if len(self._received) >= wire.HEADER_BYTES:
            # Reading what is already there never yields, so a flood of frames would stop every clock of the host.
            await asyncio.sleep(0)
        header = await self._exactly(wire.HEADER_BYTES)
        payload = await self._exactly(wire.payload_bytes(header, max_bytes=wire.FROM_JAIL_BYTES))
        if len(payload) <= _ASIDE_BYTES:
            return wire.decode(payload, max_values=wire.MAX_VALUES)
        # On a thread, because the host has other runs to attend to while it reads what one of them sent.
        return await asyncio.to_thread(wire.decode, payload, max_values=wire.MAX_VALUES)

    def close(self) -> None:
        self._watch_no_more()
        self._socket.close()

    async def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            if not await self._more():
                raise JailEndedError(f"the jail closed its socket after {len(self._received)} of {count} bytes")
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    async def _more(self) -> bool:
        """Wait until more has been received; False at the end.

        The loop goes on watching the socket afterwards: to begin and to end that for each frame costs it four calls
        and as many rounds. It ends when something comes that nobody waits for, which then stays where it is.
        """
        loop = asyncio.get_running_loop()
        if not self._is_watched:
            loop.add_reader(self._socket.fileno(), self._take)
            self._is_watched = True
        self._waiter = loop.create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _take(self) -> None:
        """Receive what there is, if somebody waits for it."""
        if self._waiter is None:
            self._watch_no_more()
        elif not self._waiter.done():
            try:
                chunk = self._socket.recv(_RECEIVED_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._waiter.set_exception(JailEndedError(f"the jail closed its socket: {error}"))
                return
            self._received += chunk
            self._waiter.set_result(bool(chunk))

    def _watch_no_more(self) -> None:
        if self._is_watched:
            self._is_watched = False
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
