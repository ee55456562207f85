"""Peak memory of our processes, from the outside: what the kernel says in /proc, not what they say themselves.

Every 50 ms the tree below this process is walked, without the engine and all that is below it. Two figures are
kept. `sampled`: the largest sum of resident sizes seen at one moment; it can miss a short peak. `bound`: the
largest sum of the processes' own high-water marks (VmHWM, which the kernel misses nothing for); the true peak
of the processes seen is never above it. Pages that processes share are counted once for each of them, so both
err on the high side. held_bytes() counts them once: what there is at one moment, for one look at a time.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.processes import children

PERIOD_S = 0.05
METHOD = (
    "sum over this process and all below it but the engine, from /proc/PID/status every 50 ms; "
    "sampled: most VmRSS at one moment; bound: most VmHWM at one moment"
)

_MEMORY_FILE = "/memfd:"
ENGINE_MODULE = "rlm_local.engine"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process, or of a sum of them."""

    resident: int  # VmRSS
    high_water: int  # VmHWM


def is_engine(argv: list[str]) -> bool:
    """Tell whether this command line is an engine process: `python -m rlm_local.engine...`."""
    return any(argument.startswith(ENGINE_MODULE) for argument in argv)


class PeakMemory:
    """Samples on a thread of its own from `with` to the end of the block."""

    def __init__(self, root: int | None = None, *, leave_out: Callable[[list[str]], bool] = is_engine) -> None:
        self.sampled_bytes = 0
        self.bound_bytes = 0
        self._root = root or os.getpid()
        self._leave_out = leave_out
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    @staticmethod
    def can_measure() -> bool:
        """Tell whether this kernel lists a process's children; without that list the figures would be too low."""
        return any(Path("/proc/self/task").glob("*/children"))

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.sample()

    def sample(self) -> None:
        """Look once. Called by the thread; also of use at a moment that must not be missed."""
        seen = [read_memory(pid) for pid in process_tree(self._root, self._leave_out)]
        self.sampled_bytes = max(self.sampled_bytes, sum(memory.resident for memory in seen))
        self.bound_bytes = max(self.bound_bytes, sum(memory.high_water for memory in seen))

    def _watch(self) -> None:
        while not self._over.wait(PERIOD_S):
            self.sample()


def process_tree(root: int, leave_out: Callable[[list[str]], bool]) -> Iterator[int]:
    """Yield the pids of `root` and all below it, without those left out and what is below them."""
    yield root
    for pid in children(root):
        if not leave_out(_argv(pid)):
            yield from process_tree(pid, leave_out)


def read_memory(pid: int) -> Memory:
    """Return what the process holds; zeros when it has ended."""
    kib = {"VmRSS": 0, "VmHWM": 0}
    for line in _read(pid, "status").splitlines():
        name, _, value = line.partition(":")
        if name in kib:
            kib[name] = int(value.split()[0])
    return Memory(kib["VmRSS"] * 1024, kib["VmHWM"] * 1024)


def held_bytes(root: int) -> int:
    """Return what a process and all below it but the engine hold at this moment, shared pages counted once.

    That is the sum of their proportional set sizes, and what of their memory files nobody has mapped.
    """
    mapped = Counter[str]()
    files: dict[str, int] = {}
    for pid in process_tree(root, is_engine):
        mapped += _pss(_read(pid, "smaps"))
        files |= _memory_files(pid)
    return mapped.total() + sum(max(0, count - mapped[inode]) for inode, count in files.items())


def _memory_files(pid: int) -> dict[str, int]:
    """Return the bytes of each memory file that a process has open, by its inode."""
    found = {}
    with suppress(OSError):  # it has ended
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # it was closed
                if str(Path(entry.path).readlink()).startswith(_MEMORY_FILE):
                    status = entry.stat()
                    found[str(status.st_ino)] = status.st_blocks * 512
    return found


def _pss(smaps: str) -> Counter[str]:
    """Return the proportional bytes of mappings, by the inode of the file that they are of."""
    found, inode = Counter[str](), ""
    for line in smaps.splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            inode = words[4]
        elif words[0] == "Pss:":
            found[inode] += int(words[1]) * 1024
    return found


def _argv(pid: int) -> list[str]:
    return _read(pid, "cmdline").split("\0")


def _read(pid: int, name: str) -> str:
    # A process may end between being listed and being read; it holds nothing then.
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
