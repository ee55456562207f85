"""The life of a server: listen, load, answer, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from rlm_local.connection import BACKLOG, ending_stalled
from rlm_local.errors import RlmError
from rlm_local.runtime import Runtime
from rlm_local.server.desk import Desk
from rlm_local.server.listen import Tls
from rlm_local.server.logs import log
from rlm_local.server.settings import Settings
from rlm_local.server.wire import ended

_LAST_WORDS_S = 5.0  # for answers to reach their readers, from when the last one has ended
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def serve(
    app: ASGIApp,
    desk: Desk,
    opening: AbstractAsyncContextManager[Runtime],
    listener: socket.socket,
    on_ready: Callable[[Runtime], None],
    *,
    tls: Tls | None = None,
) -> None:
    """Serve what `opening` yields until a signal asks for the end; return when nothing of ours runs any more.

    /health answers at once, the rest when the model is loaded; on_ready is called then. The first SIGTERM, SIGINT
    or SIGHUP, or `desk.asked_to_stop`, stops gracefully: no new work, drain_s for what is under way, then it is ended.
    A signal after that ends the process at once; engine and jails die with it. Raises what `opening` raises.
    """
    http = _Http(app, desk.settings, tls)
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    _heed_signals(desk.asked_to_stop)
    working = asyncio.create_task(_work(desk, opening, on_ready, http))
    try:
        await asyncio.wait({serving, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and desk.state != "stopping":
            raise RlmError("the HTTP server ended by itself")
        await working
    finally:
        await ended(working)
        http.should_exit = True
        await asyncio.wait({serving}, timeout=_LAST_WORDS_S)
        await ended(serving)
        log("stopped")


async def _work(
    desk: Desk,
    opening: AbstractAsyncContextManager[Runtime],
    on_ready: Callable[[Runtime], None],
    http: _Http,
) -> None:
    stopping = asyncio.create_task(desk.asked_to_stop.wait())
    runtime_here: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    holding = asyncio.create_task(_hold(desk, opening, runtime_here, on_ready))
    try:
        await asyncio.wait({stopping, holding}, return_when=asyncio.FIRST_COMPLETED)
        if holding.done():
            await holding  # it could not start
        log("stopping")
        http.should_exit = True  # listens no more, and waits for the answers under way
        await desk.stop(desk.settings.drain_s)
    finally:
        await ended(holding, stopping)


async def _hold(
    desk: Desk,
    opening: AbstractAsyncContextManager[Runtime],
    here: asyncio.Future[None],
    on_ready: Callable[[Runtime], None],
) -> None:
    """Keep a runtime until cancelled."""
    async with opening as runtime:
        desk.open(runtime)
        on_ready(runtime)
        await here


def _heed_signals(asked: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def heard(number: signal.Signals) -> None:
        if asked.is_set():
            os._exit(128 + number)  # whoever asks twice does not want to wait for anything
        asked.set()

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(number, heard, number)


class _Http(uvicorn.Server):
    """uvicorn without hands on the signals: they are ours."""

    def __init__(self, app: ASGIApp, settings: Settings, tls: Tls | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=ending_stalled(settings.stalled_s, settings.head_s),
                ws="none",
                access_log=False,
                log_config=None,
                log_level="critical",
                lifespan="off",
                server_header=False,
                timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # it is waited for as any float
                backlog=BACKLOG,
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.key if tls else None,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
