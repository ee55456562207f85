"""What happens between fork and exec of nsjail: die with the parent, set out the files.

nsjail mounts as the jailed id, which nobody's folder lets through: an interpreter below /root or any other
private folder could not be bound. So as root its files are first bound, in a mount namespace of nsjail's own, below
a folder that everybody may pass. Nothing of it is seen outside, and it is gone with the process.

All arguments are made ready before the fork; after it there are system calls only.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlm_local.errors import JailUnavailable
from rlm_local.jail.interpreter import Interpreter
from rlm_local.jail.policy import may_map_others

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
_STAGES = ("/mnt", "/media", "/srv")  # folders that every system has, and that are covered for nsjail alone


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the interpreter's files are set out. Empty where the jailed id is our own: it may bind our files."""

    folder: Path | None = None
    binds: tuple[tuple[bytes, bytes, bool], ...] = ()  # from, to, whether it is a folder
    covered: tuple[bytes, ...] = ()  # folders that get a tmpfs of nsjail's own

    def set_out(self) -> None:
        """Make the mounts, in this process only. Raises OSError."""
        if self.folder is None:
            return
        _check(_libc.unshare(_CLONE_NEWNS), "unshare(CLONE_NEWNS)")
        _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        for folder in self.covered:
            _mount(b"none", folder, b"tmpfs", 0, b"mode=0755")
        for source, target, is_folder in self.binds:
            if is_folder:
                os.mkdir(target)  # noqa: PTH102  # bytes, and nothing built after the fork
            else:
                os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
            _mount(source, target, None, _MS_BIND, None)


def staged(interpreter: Interpreter, nsjail: Path) -> tuple[Interpreter, Stage]:
    """Return the interpreter as nsjail will find it, and the stage that puts it there.

    Raises JailUnavailable when every folder that could be covered holds something that is needed.
    """
    return _staged(interpreter, nsjail) if may_map_others() else (interpreter, Stage())


@functools.cache
def _staged(interpreter: Interpreter, nsjail: Path) -> tuple[Interpreter, Stage]:
    sources = {"python": interpreter.binary, "library": interpreter.library}
    sources |= {f"lib-{name}": path for name, path in interpreter.shared}
    sources |= {f"package-{number}": path for number, (_, path) in enumerate(interpreter.packages)}
    needed = [nsjail, *sources.values()]
    folder = next((Path(name) for name in _STAGES if Path(name).is_dir() and not _holds(name, needed)), None)
    if folder is None:
        raise JailUnavailable(f"no folder of {', '.join(_STAGES)} is free", hint="move rlm-local or Python elsewhere")
    binds = tuple(
        (os.fsencode(path.resolve()), os.fsencode(folder / name), path.is_dir()) for name, path in sources.items()
    )
    # nsjail leaves an empty folder in /tmp; covered, /tmp is its own and goes with it. The binds come after the
    # covers, so what they bind must not lie below one.
    covered = [os.fsencode(folder)] + ([] if _holds("/tmp", needed) else [b"/tmp"])
    moved = replace(
        interpreter,
        binary=folder / "python",
        library=folder / "library",
        shared=tuple((name, folder / f"lib-{name}") for name, _ in interpreter.shared),
        packages=tuple((name, folder / f"package-{at}") for at, (name, _) in enumerate(interpreter.packages)),
    )
    return moved, Stage(folder, binds, tuple(covered))


def _holds(folder: str, paths: Sequence[Path]) -> bool:
    return any(path.resolve().is_relative_to(Path(folder).resolve()) for path in paths)


@dataclass(frozen=True, slots=True)
class Prelude:
    """preexec_fn of nsjail."""

    stage: Stage
    parent: int

    def __call__(self) -> None:
        # Fires when the thread that forked ends: sessions must be started from a thread that lives as long.
        _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != self.parent:
            os._exit(1)  # the parent died before the line above
        _be_ended_first()
        self.stage.set_out()


def _be_ended_first() -> None:
    """Where the whole machine runs out of memory, the kernel shall end the jail, and neither us nor the engine."""
    descriptor = os.open(b"/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(descriptor, b"1000")
    os.close(descriptor)


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    _check(_libc.mount(source, target, kind, flags, data), "mount")


def _check(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), call)
