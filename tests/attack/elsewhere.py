"""How tests run a command as somebody else: as a plain user, or on a machine whose cgroups are other than ours.

Everything is done in the child, in a mount namespace of its own, between fork and exec.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOBODYS_ID = 1_888_888_888
_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
_CGROUPS = "/sys/fs/cgroup"
_libc = ctypes.CDLL(None, use_errno=True)


def run_elsewhere(
    arguments: Sequence[str], *, as_user: bool = False, cgroups: str = "as they are", **named: object
) -> subprocess.CompletedProcess[str]:
    """Run `python arguments` and return what came of it.

    as_user: as an id that nobody has, if we are root. cgroups: "as they are", "none", or "delegated" (a group that the
    user owns, as a service manager gives it).
    """
    with _delegated() if cgroups == "delegated" else _nothing() as group:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=_prelude(as_user=as_user, cgroups=cgroups, group=group),
            **named,  # type: ignore[call-overload]
        )


def _prelude(*, as_user: bool, cgroups: str, group: tuple[Path, ...]) -> Callable[[], None]:
    def prepare() -> None:
        for folder in group:
            (folder / "cgroup.procs").write_text("0")
        if as_user or cgroups == "none":
            _check(_libc.unshare(_CLONE_NEWNS))
            _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
        if cgroups == "none":
            _check(_libc.mount(b"none", _CGROUPS.encode(), b"tmpfs", 1, b"mode=0555"))
        if as_user:
            _open_the_way(sys.base_prefix, sys.prefix, str(ROOT))
            os.setgroups([])
            os.setgid(NOBODYS_ID)
            os.setuid(NOBODYS_ID)

    return prepare


def _open_the_way(*needed: str) -> None:
    """Make needed folders reachable for everybody: a private folder above one is covered, and the one bound again."""
    held = {path: os.open(path, os.O_PATH) for path in dict.fromkeys(needed)}
    private = {
        str(folder)
        for path in held
        for folder in Path(path).parents
        if folder != Path("/") and not folder.stat().st_mode & 0o001
    }
    for folder in sorted(private, key=len):
        _check(_libc.mount(b"none", folder.encode(), b"tmpfs", 0, b"mode=0755"))
    for path, descriptor in held.items():
        if any(Path(path).is_relative_to(folder) for folder in private):
            Path(path).mkdir(parents=True, exist_ok=True)
            _check(_libc.mount(f"/proc/self/fd/{descriptor}".encode(), path.encode(), None, _MS_BIND | _MS_REC, None))
        os.close(descriptor)


@contextmanager
def _nothing() -> Iterator[tuple[Path, ...]]:
    yield ()


@contextmanager
def _delegated() -> Iterator[tuple[Path, ...]]:
    """Make groups of cgroup v1 that the plain user owns, and remove them."""
    folders = tuple(Path(_CGROUPS) / kind / f"rlm-local-test-{os.getpid()}" for kind in ("memory", "pids"))
    made = []
    try:
        for folder in folders:
            folder.mkdir()
            made.append(folder)
            for path in (folder, folder / "cgroup.procs", folder / "tasks"):
                os.chown(path, NOBODYS_ID, NOBODYS_ID)
        yield folders
    finally:
        for folder in made:
            folder.rmdir()


def can_delegate() -> bool:
    return os.geteuid() == 0 and all(
        os.access(f"{_CGROUPS}/{kind}/cgroup.procs", os.W_OK) for kind in ("memory", "pids")
    )


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "in the child")
