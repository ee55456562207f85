"""The CPU engine as a process: OpenAI's API for one model on a unix socket.

    python -m rlm_local.engine.llama.service --weights FILE --model NAME --socket PATH --ctx N --cells N
                                             --threads N [--shelf N] [--stalled-s S]
                                             [--lifeline-fd N]

It ends on SIGTERM, and at once when the other end of the lifeline closes, however its parent died.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from rlm_local.connection import BACKLOG, ending_stalled, listen_private
from rlm_local.engine.llama.api import application
from rlm_local.engine.llama.binding import Context, Model
from rlm_local.engine.llama.intake import Service
from rlm_local.engine.memory import SEQUENCES
from rlm_local.errors import EngineError


def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    if args.lifeline_fd is not None:
        _die_with(args.lifeline_fd, args.socket)
    try:
        model = Model(args.weights)
        context = Context(model, cells=args.cells, sequences=SEQUENCES, threads=args.threads)
        service = Service(model, context, name=args.model, window_tokens=args.ctx, shelf=args.shelf)
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    listener = listen_private(args.socket)
    try:
        _serve(service, listener, stalled_s=args.stalled_s)
    finally:
        args.socket.unlink(missing_ok=True)
        service.close()
    return 0


class _Server(uvicorn.Server):
    """uvicorn that ends running generations first, so that its graceful shutdown has nothing to wait for."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_exit()
        super().handle_exit(sig, frame)


def _serve(service: Service, listener: socket.socket, *, stalled_s: float) -> None:
    config = uvicorn.Config(
        application(service),
        http=ending_stalled(stalled_s, head_s=stalled_s),
        access_log=False,
        log_level="warning",
        lifespan="off",
        server_header=False,
        timeout_keep_alive=86_400,  # a client that pauses between two calls must not find its connection closed
        timeout_graceful_shutdown=2,
        backlog=BACKLOG,
    )
    server = _Server(config, service.cancel_all)
    # uvicorn raises the signal again when it is done, for whoever had the handler before: we need no more.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    asyncio.run(server.serve(sockets=[listener]))


def _die_with(lifeline: int, path: Path) -> None:
    """End this process when nobody holds the write end of `lifeline` any more, as after kill -9."""

    def wait() -> None:
        while os.read(lifeline, 1):
            pass
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # private to this engine, and empty now
        os._exit(1)  # a computation may be under way in another thread; nothing here needs its end

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rlm_local.engine.llama.service")
    parser.add_argument("--weights", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--model", required=True, help="the name that requests use")
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to make, mode 0600")
    parser.add_argument("--ctx", type=int, required=True, help="tokens of one request, prompt and reply")
    parser.add_argument("--cells", type=int, required=True, help="tokens kept in memory, all prefixes together")
    parser.add_argument("--threads", type=int, required=True, help="threads of one computation")
    parser.add_argument("--shelf", type=int, default=0, help="beside the cells, for prefixes that wait")
    parser.add_argument("--stalled-s", type=float, default=60, help="what nobody reads or asks on for so long is ended")
    parser.add_argument("--lifeline-fd", type=int, help="read end of a pipe that our parent holds open")
    return parser


if __name__ == "__main__":
    sys.exit(main())
