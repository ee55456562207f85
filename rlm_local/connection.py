"""Callers' connections: a socket for one user's callers, and an end for those whose reader stops reading."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from uvicorn.protocols.http.h11_impl import H11Protocol

# A caller that finds the queue full fails at once on a unix socket; the kernel bounds this number (somaxconn).
BACKLOG = 4096


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


def ending_stalled(stalled_s: float) -> type[H11Protocol]:
    """Return uvicorn's protocol with a bound on how long a reader may leave a full buffer.

    stalled_s: from the moment that the transport's buffer is full (64 KiB, beyond what the kernel holds) until it is
        nearly empty again. After that the connection is aborted: closing it would wait for the reader to take the
        buffer, so that many of his kind could hold memory and file descriptors for good.
    """

    class Protocol(H11Protocol):
        _abort: asyncio.TimerHandle | None = None

        def pause_writing(self) -> None:
            super().pause_writing()
            self._abort = self.loop.call_later(stalled_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._no_longer_stalled()

        def connection_lost(self, exc: Exception | None) -> None:
            self._no_longer_stalled()
            super().connection_lost(exc)

        def _no_longer_stalled(self) -> None:
            if self._abort is not None:
                self._abort.cancel()
                self._abort = None

    return Protocol
