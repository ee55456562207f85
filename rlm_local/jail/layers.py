"""The layers of one running jail, as the kernel tells them to whoever stands outside; it cannot lie to this."""

from __future__ import annotations

from collections.abc import Iterable

from rlm_local.errors import JailUnavailable
from rlm_local.jail.diagnose import userns_hint
from rlm_local.jail.proc import namespace, read_proc
from rlm_local.types import Check

_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_FILTERS = 2  # nsjail's and the worker's own
_HINT = "report this: the jail started without one of its layers"


def layers(pid: int) -> tuple[Check, ...]:
    """Return one line a layer of the worker `pid`. Raises OSError when it has died."""
    return (*namespaces(pid), *rights(pid))


def namespaces(pid: int) -> tuple[Check, ...]:
    """Return the layers that a process has from its first moment, and that no call which it may make takes away."""
    has_own_users = _is_apart(pid, "user")
    return (
        layer("user namespace", has_own_users, "own", "" if has_own_users else userns_hint()),
        layer("network namespace", _is_apart(pid, "net"), "own"),
        layer("mount namespace", _is_apart(pid, "mnt"), "own root"),
        layer("pid namespace", _is_apart(pid, "pid"), "own"),
        layer("ipc, uts, cgroup namespaces", all(_is_apart(pid, kind) for kind in ("ipc", "uts", "cgroup")), "own"),
    )


def rights(pid: int) -> tuple[Check, ...]:
    """Return the layers that are there once the worker has locked itself in."""
    fields = dict(line.split(":\t", 1) for line in read_proc(pid, "status").splitlines() if ":\t" in line)
    uid, filters = fields["Uid"].split()[0], _filters(fields)
    pids = fields.get("NSpid", "").replace("\t", " -> ")
    return (
        layer("no new privileges", fields.get("NoNewPrivs") == "1", "set"),
        layer(
            "capabilities",
            not any(int(fields[name], 16) for name in _CAPABILITIES),
            f"none in all five sets; uid {uid} outside, pid {pids}",
        ),
        layer("seccomp filters", filters >= _FILTERS, f"{filters} installed, {_FILTERS} expected"),
    )


def require(checks: Iterable[Check]) -> None:
    """Raise JailUnavailable, naming each, when a layer that every run needs is not there."""
    if missing := [check for check in checks if check.required and not check.ok]:
        names = ", ".join(check.name for check in missing)
        raise JailUnavailable(f"the jail started without {names}; nothing was run in it", hint=missing[0].hint)


def layer(name: str, ok: bool, detail: str, hint: str = "") -> Check:
    return Check(name, ok, detail, hint="" if ok else hint or _HINT)


def _is_apart(pid: int, kind: str) -> bool:
    try:
        return namespace("self", kind) != namespace(pid, kind)
    except PermissionError:
        # Whoever is not root may not look into a jail; that the kernel forbids it shows that it is apart.
        return True


def _filters(fields: dict[str, str]) -> int:
    if "Seccomp_filters" in fields:
        return int(fields["Seccomp_filters"])
    return _FILTERS if fields.get("Seccomp") == "2" else 0  # Linux before 5.9 does not count them
