"""The worker as one piece of memory: every module of it compiled here, so that a starting jail reads no file."""

from __future__ import annotations

import functools
import marshal
from pathlib import Path
from types import CodeType

from rlm_local.jail.memory import sealed_bytes
from rlm_local.rooms import room

_PACKAGES = ("sandbox", "sandbox.worker", "rlm_local", "rlm_local.jail")
_SHARED = ("rlm_local.jail.wire", "rlm_local.rows", "rlm_local.days")  # with the host
_BOOT = "sandbox.worker.boot"

COMMAND = 'import marshal,sys;boot,modules=marshal.loads(open(int(sys.argv[2]),"rb").read());exec(boot)'
"""For `python -c`, with the bundle's descriptor as second argument; closes it."""


def worker_sources() -> dict[str, str]:
    """Return what the worker is made of, by module name: its own files, and what it shares with the host."""
    folder = room("sandbox") / "worker"
    paths = {f"sandbox.worker.{path.stem}": path for path in sorted(folder.glob("*.py"))}
    host = Path(__file__).parent.parent
    paths |= {name: host.joinpath(*name.split(".")[1:]).with_suffix(".py") for name in _SHARED}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}


@functools.cache
def worker_bundle() -> bytes:
    """Return the worker's code, for the very Python that runs this: it is the one that runs in the jail."""
    sources = worker_sources()
    modules: dict[str, CodeType | None] = dict.fromkeys(_PACKAGES)
    for name, source in sources.items():
        modules[name] = compile(source, f"worker/{name}", "exec", dont_inherit=True)
    return marshal.dumps((modules.pop(_BOOT), modules))


def open_bundle() -> int:
    """Return the descriptor of a memory file with the bundle, sealed; the caller closes it."""
    return sealed_bytes("worker", worker_bundle())
