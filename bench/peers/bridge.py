"""A peer's way to the engine: a port on loopback, inside its own network namespace, that leads to a unix socket.

Peers know base URLs only. Standard library alone, because it runs in the environment of a peer.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

_PIECE = 1 << 16


def open_bridge(target: Path) -> str:
    """Return the base URL of an OpenAI-compatible engine. Threads that die with the process carry the bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, target), daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def _accept(listener: socket.socket, target: Path) -> None:
    while True:
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            far.connect(str(target))
        except OSError:
            near.close()
            far.close()
            continue
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_carry, args=(source, sink), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            end.close()
