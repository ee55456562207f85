"""The layers of one running jail, as the kernel tells them to whoever stands outside; it cannot lie to this."""

from __future__ import annotations

from rlm_local.errors import JailUnavailable
from rlm_local.jail.diagnose import userns_hint
from rlm_local.jail.proc import namespace, read_proc
from rlm_local.types import Check

_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_FILTERS = 2  # nsjail's and the worker's own
_HINT = "report this: the jail started without one of its layers"


def layers(pid: int) -> tuple[Check, ...]:
    """Return one line a layer of the worker `pid`. Raises OSError when it has died."""
    status = read_proc(pid, "status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid, filters = fields["Uid"].split()[0], _filters(fields)
    has_own_users = _is_apart(pid, "user")
    return (
        layer("user namespace", has_own_users, f"uid {uid} outside", "" if has_own_users else userns_hint()),
        layer("network namespace", _is_apart(pid, "net"), "own"),
        layer("mount namespace", _is_apart(pid, "mnt"), "own root"),
        layer("pid namespace", _is_apart(pid, "pid"), fields.get("NSpid", "").replace("\t", " -> ")),
        layer("ipc, uts, cgroup namespaces", all(_is_apart(pid, kind) for kind in ("ipc", "uts", "cgroup")), "own"),
        layer("no new privileges", fields.get("NoNewPrivs") == "1", "set"),
        layer("capabilities", not any(int(fields[name], 16) for name in _CAPABILITIES), "none in all five sets"),
        layer("seccomp filters", filters >= _FILTERS, f"{filters} installed, {_FILTERS} expected"),
    )


def require_layers(pid: int) -> None:
    """Raise JailUnavailable, naming each, when a layer that every run needs is not there."""
    if missing := [check for check in layers(pid) if check.required and not check.ok]:
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
