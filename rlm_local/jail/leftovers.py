"""What jails of this process have left on the machine: nothing, once they have ended."""

from __future__ import annotations

from pathlib import Path

from rlm_local.jail import cgroup


def leftovers() -> tuple[str, ...]:
    """Return one line for each process and each control group of this process's jails that is still there."""
    return (*map(_process, _children()), *(f"cgroup {folder}" for folder in cgroup.own()))


def _children() -> list[int]:
    lists = [(task / "children").read_text(encoding="ascii") for task in Path("/proc/self/task").iterdir()]
    return [pid for pids in lists for pid in map(int, pids.split()) if _name(pid) == "nsjail"]


def _process(pid: int) -> str:
    return f"process {pid} ({_name(pid)})"


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
