"""What a jail may see and use, as an nsjail configuration.

The mount list is computed from the running interpreter: single folders and files, never /usr or / as a whole.
Inside, Python lies under /python and every shared library in /lib, so that no path of the host is readable there.
"""

from __future__ import annotations

import functools
import os
import pwd
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlm_local.jail.interpreter import Interpreter
from rlm_local.limits import MIB, Limits
from rlm_local.rooms import room

TMP_BYTES = 64 * MIB
PROCESSES = 64  # threads, in truth: stage 2 allows no process
JAILED_ID = 1000  # uid and gid inside
PACKAGES = "/python/packages"  # where the worker looks for modules that are not Python's own
_NICE = 5
# Above every range that systemd, useradd and subuid files hand out, below where 32-bit tools overflow.
_FREE_IDS = range(1_900_000_000, 2_100_000_000)
# How each byte is written in a literal of the text format.
_LITERAL = [chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in range(256)]


@dataclass(frozen=True, slots=True)
class Outside:
    """Whom the kernel takes the jailed process for: an id of nobody's where we may give it one, else ourselves."""

    uid: int | None
    gid: int | None


def unused_ids() -> Outside:
    """Return an id that no account of this machine has; a new one at each call, so that two jails differ.

    Only root may map others' ids: for everybody else the jail is their own user, in a user namespace.
    """
    if not may_map_others():
        return Outside(None, None)
    while True:
        chosen = secrets.choice(_FREE_IDS)
        try:
            pwd.getpwuid(chosen)
        except KeyError:
            return Outside(chosen, chosen)


def may_map_others() -> bool:
    """Tell whether we are root, and of a user namespace that has ids to give: one that `unshare -r` made has none."""
    return os.geteuid() == 0 and all(_has_free_ids(Path(f"/proc/self/{kind}_map")) for kind in ("uid", "gid"))


def _has_free_ids(id_map: Path) -> bool:
    for line in id_map.read_text(encoding="ascii").splitlines():
        first, _, count = map(int, line.split())
        if first <= _FREE_IDS[0] and _FREE_IDS[-1] < first + count:
            return True
    return False


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one process in a jail may use."""

    address_space_bytes: int
    cpu_s: int  # a backstop; the host counts per cell

    @classmethod
    def of(cls, limits: Limits, text_bytes: int) -> Bounds:
        """Return the bounds of a run: what a cell may use, and the documents, which are mapped."""
        return cls(limits.cell_memory_bytes + text_bytes, int(limits.max_turns * limits.cell_cpu_s) + 60)

    def with_room(self, text_bytes: int) -> Bounds:
        """Return the bounds until the documents are open: a Python whose str we do not know decodes them."""
        return Bounds(self.address_space_bytes + text_bytes, self.cpu_s)


def config(interpreter: Interpreter, bounds: Bounds, outside: Outside) -> str:
    """Return the nsjail configuration, protobuf text format."""
    return "\n".join([*_identity(outside), *_limits(bounds), _constant(interpreter)])


def arguments(
    interpreter: Interpreter, boot: str, descriptors: Sequence[int] = (), *, is_ahead: bool = False
) -> list[str]:
    """Return the command that starts the worker inside. is_ahead: its documents come later.

    Not `python -I`: that ignores PYTHONHASHSEED too, and with it two runs of a cell may order a set differently.
    The environment holds nothing but what `config` put there.
    """
    words = [name for name, said in (("ahead", is_ahead), ("packages", bool(interpreter.packages))) if said]
    python = f"/python/bin/python{interpreter.version}"
    return [python, "-s", "-P", "-S", "-B", "-c", boot, *map(str, descriptors), *words]


def quoted(value: str | bytes) -> str:
    """Return value as a string literal of the text format; no byte of it can end the literal or add a field."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return f'"{"".join(map(_LITERAL.__getitem__, data))}"'


@functools.cache
def _constant(interpreter: Interpreter) -> str:
    """Return what is the same in every jail. Made once: half of a start's own work was this."""
    seccomp = f"seccomp_string: {quoted((room('sandbox') / 'policy.kafel').read_bytes())}"
    return "\n".join([*_namespaces(), *_environment(interpreter), *_mounts(interpreter), seccomp, ""])


def _namespaces() -> Iterator[str]:
    yield 'name: "rlm-local"'
    yield "mode: ONCE"
    yield 'hostname: "jail"'
    yield 'cwd: "/tmp"'
    yield "time_limit: 0"  # a session lives as long as its run; cells are timed by the host
    for kind in ("net", "user", "ns", "pid", "ipc", "uts", "cgroup"):
        yield f"clone_new{kind}: true"
    yield "clone_newtime: false"  # needs a kernel of 5.6, and hides nothing but the uptime
    yield "iface_no_lo: true"
    yield "mount_proc: false"
    yield "keep_env: false"
    yield "keep_caps: false"
    yield "disable_no_new_privs: false"
    yield "skip_setsid: false"
    yield "forward_signals: false"
    # Behind the engine; whoever runs at a lower priority yet may not raise it for a jail.
    yield f"nice_level: {max(_NICE, os.getpriority(os.PRIO_PROCESS, 0))}"
    yield "max_cpus: 1"  # threads of a cell shall not hold every core: the engine needs them


def _identity(outside: Outside) -> Iterator[str]:
    for kind, identity in (("uidmap", outside.uid), ("gidmap", outside.gid)):
        named = "" if identity is None else str(identity)
        yield f'{kind} {{ inside_id: "{JAILED_ID}" outside_id: "{named}" count: 1 }}'


def _limits(bounds: Bounds) -> Iterator[str]:
    yield f"rlimit_as: {-(-bounds.address_space_bytes // MIB)}"
    yield f"rlimit_fsize: {TMP_BYTES // MIB}"
    yield f"rlimit_cpu: {bounds.cpu_s}"
    yield "rlimit_nofile: 64"
    for name, value in (
        ("core", 0),
        ("memlock", 0),
        ("rtprio", 0),
        ("msgqueue", 0),
        ("stack", 8),
        ("nproc", PROCESSES),
    ):
        yield f"rlimit_{name}: {value}"
        yield f"rlimit_{name}_type: VALUE"


def _environment(interpreter: Interpreter) -> Iterator[str]:
    yield 'envar: "PYTHONHASHSEED=0"'
    yield 'envar: "PYTHONUTF8=1"'
    yield 'envar: "LD_LIBRARY_PATH=/lib"'
    yield 'envar: "HOME=/tmp"'
    yield 'envar: "MALLOC_ARENA_MAX=1"'  # an arena a thread would reserve 64 MiB of address space each
    if interpreter.packages:
        # A jail has one core, and each thread of these reserves 32 MiB and more of what a cell may use.
        for library in ("OPENBLAS", "OMP", "MKL"):
            yield f'envar: "{library}_NUM_THREADS=1"'


def _mounts(interpreter: Interpreter) -> Iterator[str]:
    yield _bind(interpreter.binary, f"/python/bin/python{interpreter.version}")
    library = f"/python/lib/python{interpreter.version}"
    yield _bind(interpreter.library, library)
    for name in interpreter.hidden:
        yield _tmpfs(f"{library}/{name}", "size=4096,nr_inodes=2,mode=0555", writable=False)
    yield _bind(interpreter.loader, str(interpreter.loader))
    for name, path in interpreter.shared:
        yield _bind(path, f"/lib/{name}")
    for name, path in interpreter.packages:
        yield _bind(path, f"{PACKAGES}/{name}")
    yield 'mount { src: "/dev/null" dst: "/dev/null" is_bind: true rw: false nosuid: true noexec: true }'
    yield 'mount { src: "/dev/urandom" dst: "/dev/urandom" is_bind: true rw: false nosuid: true noexec: true }'
    owner = f"uid={JAILED_ID},gid={JAILED_ID}"
    yield _tmpfs("/tmp", f"size={TMP_BYTES},nr_inodes=4096,mode=0700,{owner}", writable=True)


def _bind(source: Path, destination: str) -> str:
    resolved = quoted(str(source.resolve()))
    return f"mount {{ src: {resolved} dst: {quoted(destination)} is_bind: true rw: false nosuid: true nodev: true }}"


def _tmpfs(destination: str, options: str, *, writable: bool) -> str:
    return (
        f'mount {{ dst: {quoted(destination)} fstype: "tmpfs" rw: {str(writable).lower()} options: {quoted(options)} '
        "nosuid: true nodev: true noexec: true }"
    )
