"""A control group for each jail where the system lets us: a second bound on memory and threads, counted by the kernel.

Not required. Without one RLIMIT_AS bounds the memory all the same, because stage 2 lets no second process begin.
The group is ours and not nsjail's, so that its counters can be read after the jail has died.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMORY_BOUND = {1: "memory.limit_in_bytes", 2: "memory.max"}
_MEMORY_AND_SWAP = "memory.memsw.limit_in_bytes"  # v1, never below the bound of memory alone
_SWAP = ("memory.swap.max", _MEMORY_AND_SWAP)
_NAME = re.compile(r"rlm-local\.(\d+)\.[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Group:
    """The folders of one jail's group, one a hierarchy (v1) or one in all (v2)."""

    version: int
    folders: tuple[Path, ...]

    def add(self, pid: int) -> None:
        """Put a process, all its threads, into the group. The kernel may take 15 ms for it. Raises OSError."""
        for folder in self.folders:
            _write(folder / "cgroup.procs", pid)

    def allow_memory(self, memory_bytes: int) -> None:
        """Set the bound on memory anew. Raises OSError."""
        bounds = [self.folders[0] / _MEMORY_BOUND[self.version]]
        if (with_swap := self.folders[0] / _MEMORY_AND_SWAP).exists():
            # The kernel lets neither pass the other, so the one that gives way goes first.
            bounds.insert(0 if memory_bytes > int(_read(with_swap)) else 1, with_swap)
        for bound in bounds:
            _write(bound, memory_bytes)

    def oom_kills(self) -> int:
        """Return how many processes of the group the kernel has killed for memory."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                if found := re.search(r"^oom_kill (\d+)$", _read(folder / name), re.MULTILINE):
                    return int(found[1])
        return 0

    def remove(self) -> bool:
        """Remove the group; False while a process of it is still on its way out."""
        return sum(_remove(folder) for folder in self.folders) == len(self.folders)  # all of them, not up to the first


def create(*, memory_bytes: int, processes: int) -> Group | None:
    """Return a new group with these bounds, or None where this system lets us have none. Sweeps dead ones first."""
    name = f"rlm-local.{os.getpid()}.{secrets.token_hex(4)}"
    for version, parents, settings in (
        (2, _parents("", _ROOT), {_MEMORY_BOUND[2]: memory_bytes, "memory.swap.max": 0, "pids.max": processes}),
        (1, _parents("memory", _ROOT / "memory"), {_MEMORY_BOUND[1]: memory_bytes, _MEMORY_AND_SWAP: memory_bytes}),
    ):
        for parent in parents:
            sweep(parent)
            if folder := _made(parent / name, settings):
                pids = _made_first(_parents("pids", _ROOT / "pids"), name, {"pids.max": processes})
                return Group(version, (folder, pids) if version == 1 and pids else (folder,))
    return None


def own() -> list[Path]:
    """Return the groups of this process that are still there, in whatever hierarchy."""
    parents = {*_parents("", _ROOT), *_parents("memory", _ROOT / "memory"), *_parents("pids", _ROOT / "pids")}
    return [folder for parent in sorted(parents) for folder in sorted(parent.glob(f"rlm-local.{os.getpid()}.*"))]


def sweep(parent: Path) -> None:
    """Remove the groups that died with their makers: a maker that is killed cannot."""
    try:
        names = [entry.name for entry in os.scandir(parent)]
    except OSError:
        return
    for name in names:
        if (found := _NAME.fullmatch(name)) and not Path(f"/proc/{found[1]}").exists():
            _remove(parent / name)


def _parents(controller: str, hierarchy: Path) -> Iterator[Path]:
    """Yield where a group may be made: below our own, else below one that ours is in, the top last.

    With v2 it is mostly one of these: a group with processes in it, as ours is, has no controllers to give.
    """
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            yield from lineage(path, hierarchy)
            return
    yield hierarchy


def lineage(path: str, hierarchy: Path) -> list[Path]:
    """Return the folders from the group `path`, as /proc names it, up to the top of its hierarchy."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # ours lies outside of what this cgroup namespace shows
        return [hierarchy]
    return [hierarchy.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _made_first(parents: Iterator[Path], name: str, settings: dict[str, int]) -> Path | None:
    for parent in parents:
        sweep(parent)
        if folder := _made(parent / name, settings):
            return folder
    return None


def _made(folder: Path, settings: dict[str, int]) -> Path | None:
    """Return the new folder with its bounds set, None where the controller or the right to it is missing."""
    # A process is let into a group by whoever may write to the list of the group that both are in.
    if not all(os.access(path, os.W_OK) for path in (folder.parent, folder.parent / "cgroup.procs")):
        return None
    try:
        folder.mkdir(mode=0o700)
    except OSError:
        return None
    try:
        for name, value in settings.items():
            if name in _SWAP and not (folder / name).exists():
                continue  # a kernel without swap accounting
            _write(folder / name, value)
    except OSError:
        _remove(folder)
        return None
    return folder


def _write(setting: Path, value: int) -> None:
    # Not open(): it would create a plain file where the hierarchy is not what its path says.
    descriptor = os.open(setting, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode("ascii"))
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
