"""Processes as the kernel shows them: who is below whom, what one holds, and how one is killed and no other."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def children(pid: int) -> Iterator[int]:
    """Yield its children, which the kernel lists by the thread that started them."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended
        return
    for thread in threads:
        with suppress(OSError):
            yield from map(int, (thread / "children").read_text(encoding="ascii").split())


def below(pid: int) -> Iterator[int]:
    """Yield all processes that descend from this one, itself left out."""
    for child in children(pid):
        yield child
        yield from below(child)


def command_of(pid: int) -> str:
    """Return its command line; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def rss_bytes(pid: int) -> int:
    """Return what is resident of it. Raises OSError when it has ended."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """Return how many it has open. Raises OSError when it has ended."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def kill_below(ancestor: int, is_meant: Callable[[str], bool]) -> int | None:
    """Kill, by SIGKILL, a descendant whose command line is meant; return its pid, or None where there is none."""
    for pid in below(ancestor):
        try:
            held = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            # Looked at once it is held: from now on the number can become nobody else's.
            if is_meant(command_of(pid)) and pid in below(ancestor):
                signal.pidfd_send_signal(held, signal.SIGKILL)
                return pid
        except ProcessLookupError:
            continue
        finally:
            os.close(held)
    return None


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Be the parent of every process below us whose own parent ends, so that none can hide. Raises OSError."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot adopt orphans")
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def die_with_parent() -> None:
    """As a preexec_fn: the child gets SIGTERM when the thread that starts it ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    state, _ = _state_and_parent(pid)
    return state not in ("", "Z")


def living_below(pid: int) -> dict[int, str]:
    """Return the command lines of descendants that live, by pid. The dead that are ours are buried on the way."""
    living = {}
    for each in below(pid):
        state, parent = _state_and_parent(each)
        if state not in ("", "Z"):
            living[each] = command_of(each)
        elif state and parent == os.getpid():
            os.waitpid(each, os.WNOHANG)
    return living


def _state_and_parent(pid: int) -> tuple[str, int]:
    """Return the letter of a process's state and its parent; no letter where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", 0
    state, parent = stat.rpartition(")")[2].split()[:2]
    return state, int(parent)
