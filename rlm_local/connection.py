"""Callers' connections: a socket for one user's callers, and an end for those that are held without a use."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# A caller that finds the queue full fails at once on a unix socket; the kernel bounds this number (somaxconn).
BACKLOG = 4096
_REFUSED_BYTES = 65_536  # of a refused body: with so many its sender has earned the whole time again


def listen_private(path: Path) -> socket.socket:
    """Return a listening unix socket that only this user can open. uvicorn's own `uds` would make it 0666.

    Raises OSError for a path that is taken, too long, or cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def ending_stalled(stalled_s: float, head_s: float) -> type[H11Protocol]:
    """Return uvicorn's protocol with bounds on how long a caller may hold a connection without taking or asking.

    stalled_s: from the moment that the transport's buffer is full (64 KiB, beyond what the kernel holds) until it is
        nearly empty again.
    head_s: from the beginning of a connection until the head of a request is whole; behind an answer uvicorn's
        keep-alive comes on top. Only the whole head counts, not bytes, since uvicorn's own keep-alive ends with the
        first of them. The rest of a body that was refused may take longer, as long as it comes.
    After that the connection is aborted: closing it would wait for the reader to take the buffer, so that many of his
    kind could hold memory and file descriptors for good.
    """

    class Protocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._until_read = _Bound(self)
            self._until_head = _Bound(self)
            self._refused_bytes = 0  # that have come since the bound was set

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._until_head.set(head_s)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._until_head.is_set and self.conn.their_state is h11.SEND_BODY:
                self._refused_bytes += len(data)
                if self._refused_bytes >= _REFUSED_BYTES:
                    self._await_head()

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:
                self._until_head.lift()

        def on_response_complete(self) -> None:
            self._await_head()  # before uvicorn goes on: the next request may be here already
            super().on_response_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._until_read.set(stalled_s)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._until_read.lift()

        def connection_lost(self, exc: Exception | None) -> None:
            self._until_read.lift()
            self._until_head.lift()
            super().connection_lost(exc)

        def _await_head(self) -> None:
            self._refused_bytes = 0
            self._until_head.set(self.timeout_keep_alive + head_s)

    return Protocol


class _Bound:
    """A time after which a connection is aborted, unless it is lifted before."""

    def __init__(self, connection: H11Protocol) -> None:
        self._connection = connection
        self._abort: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._abort is not None

    def set(self, seconds: float) -> None:
        """Begin anew."""
        self.lift()
        self._abort = self._connection.loop.call_later(seconds, self._connection.transport.abort)

    def lift(self) -> None:
        if self._abort is not None:
            self._abort.cancel()
            self._abort = None
