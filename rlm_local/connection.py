"""A caller's connection: ended when its reader stops reading."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


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
