"""Which files of the running Python a jail needs: the binary, its library folder, and the shared libraries."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlm_local.errors import JailUnavailable

# What they need (X11, Tcl, a terminal) has no place in a jail, and is half of all the libraries.
_LEFT_OUT = ("_tkinter", "_curses", "_curses_panel", "readline", "_dbm", "_gdbm", "nis")
_RESOLVED = re.compile(r"^\s*(?:(?P<name>\S+) => )?(?P<path>/.*) \(0x[0-9a-f]+\)$")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Paths on the host; where they go in the jail is policy.py's business."""

    binary: Path
    library: Path  # the folder with os.py
    version: str  # "3.11"
    loader: Path  # the ELF interpreter; its path is written into the binary
    shared: tuple[tuple[str, Path], ...]  # soname, file
    hidden: tuple[str, ...] = ()  # folders of the library folder with what was installed, not Python's own
    packages: tuple[tuple[str, Path], ...] = ()  # where below the jail's folder of packages, file or folder


@functools.cache
def running_interpreter() -> Interpreter:
    """Return the Python that runs this, outside any virtual environment.

    Raises JailUnavailable when its files cannot be told.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    binary = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix})).resolve()
    if not (library / "os.py").is_file() or not binary.is_file():
        raise JailUnavailable(f"no Python library at {library} or no binary at {binary}", hint="run a regular CPython")
    extensions = library / "lib-dynload"
    modules = sorted(path.name for path in extensions.glob("*.so") if path.name.split(".")[0] not in _LEFT_OUT)
    named = dict(linked(binary, modules, extensions))
    loaders = [path for name, path in named.items() if name.startswith("/")]
    if not loaders:
        raise JailUnavailable(f"{binary} names no dynamic loader", hint="use a dynamically linked CPython for glibc")
    shared = {name: path for name, path in named.items() if not name.startswith("/")}
    if libc := shared.get("libc.so.6"):
        # glibc loads this one by itself when a thread is ended from outside.
        unwinder = libc.parent / "libgcc_s.so.1"
        if unwinder.is_file():
            shared.setdefault(unwinder.name, unwinder)
    hidden = tuple(name for name in ("site-packages", "dist-packages") if (library / name).is_dir())
    return Interpreter(binary, library, version, loaders[0], tuple(sorted(shared.items())), hidden)


def linked(binary: Path, libraries: Sequence[str], folder: Path) -> list[tuple[str, Path]]:
    """Return (soname, file) of every library that the binary or one of `libraries` links, the loader by path.

    One run of the dynamic loader in its tracing mode lists them all; nothing is executed. The libraries are named
    relative to the folder, because the loader splits its list at spaces and colons.
    """
    preloaded = ":".join(f"./{name}" for name in libraries)
    environment = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": preloaded, "LC_ALL": "C"}
    if path := os.environ.get("LD_LIBRARY_PATH"):
        environment["LD_LIBRARY_PATH"] = path
    traced = subprocess.run(
        [str(binary)],
        cwd=folder if folder.is_dir() else None,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    matches = filter(None, map(_RESOLVED.match, traced.stdout.splitlines()))
    return [(match["name"] or match["path"], Path(match["path"])) for match in matches]
