"""Keeps an engine that knows nothing of us: the process and all that it starts end when we do, however we die.

    python -P -m rlm_local.engine.keeper --lifeline-fd N --socket PATH --stop-s S -- COMMAND...

It ends as COMMAND ends, by the same status or signal, and leaves nothing of it. On SIGTERM it asks COMMAND to end, and
kills it after S seconds; when the other end of the lifeline closes, at once. Orphans of COMMAND become children of this
process, so that a child which outlives its parent is found too. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
_SWEEP_S = 0.01
_MEANS_US = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")  # no other interpreter is to see them


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rlm_local.engine.keeper")
    parser.add_argument("--lifeline-fd", type=int, required=True, help="read end of a pipe that our parent holds open")
    parser.add_argument("--socket", type=Path, required=True, help="removed with its folder when our parent is gone")
    parser.add_argument("--stop-s", type=float, required=True, help="from SIGTERM until the engine is killed")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args(argv)
    status = keep(args.command, args.lifeline_fd, args.socket, stop_s=args.stop_s)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    return abs(status)


def keep(command: list[str], lifeline: int, socket: Path, *, stop_s: float) -> int:
    """Run the command until it ends, or we have to end it; return its status as subprocess counts it."""
    _prctl(_SET_CHILD_SUBREAPER, 1)
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # the wake-up pipe says which came
    engine = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        env={name: value for name, value in os.environ.items() if name not in _MEANS_US},
        preexec_fn=lambda: _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL),
    )
    kill_at: float | None = None
    try:
        while engine.poll() is None:
            wait_s = None if kill_at is None else max(0.0, kill_at - time.monotonic())
            ready, _, _ = select.select([lifeline, heard], [], [], wait_s)
            if lifeline in ready or (kill_at is not None and time.monotonic() >= kill_at):
                break
            if heard in ready and {signal.SIGTERM, signal.SIGINT} & set(os.read(heard, 512)) and kill_at is None:
                kill_at = time.monotonic() + stop_s
                engine.terminate()
    finally:
        engine.kill()  # nothing, if it has ended
        engine.wait()
        _end_the_rest()
        if select.select([lifeline], [], [], 0)[0]:  # nobody else is left who could tidy up
            with contextlib.suppress(OSError):
                socket.unlink(missing_ok=True)
                socket.parent.rmdir()
    return engine.returncode


def _end_the_rest() -> None:
    """Kill every process below this one, until there is none: those of a dead parent come to us."""
    while True:
        for pid in _below(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_SWEEP_S)


def _below(root: int) -> list[int]:
    """Return the processes that descend from `root`."""
    children: dict[int, list[int]] = {}
    for pid, parent in _processes():
        children.setdefault(parent, []).append(pid)
    found, look_at = [], [root]
    while look_at:
        fresh = children.get(look_at.pop(), [])
        found += fresh
        look_at += fresh
    return found


def _processes() -> Iterator[tuple[int, int]]:
    """Yield each process of this machine with its parent."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    sys.exit(main())
