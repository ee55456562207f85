"""nsjail, started: what it is given, who may see it, and what is undone when it does not come to be."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rlm_local.errors import JailUnavailable
from rlm_local.jail import bundle, cgroup, policy
from rlm_local.jail.diagnose import nsjail_binary
from rlm_local.jail.fork import left_out_of_fork
from rlm_local.jail.interpreter import running_interpreter
from rlm_local.jail.memory import large_texts
from rlm_local.jail.packages import NO_PACKAGES, Packages, with_packages
from rlm_local.jail.stage import Prelude, staged
from rlm_local.texts import memory_file


@dataclass(frozen=True, slots=True)
class Started:
    """What there is once nsjail runs."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    group: cgroup.Group | None
    log: int
    stderr: int

    def close_logs(self) -> None:
        os.close(self.log)
        os.close(self.stderr)

    def worker_pid(self) -> int | None:
        """Return the pid of the worker, nsjail's only child; None while there is none."""
        pid = self.process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        except OSError:
            return None
        return int(children[0]) if len(children) == 1 else None


def spawn(bounds: policy.Bounds, packages: Packages = NO_PACKAGES, *, group_bytes: int, is_ahead: bool) -> Started:
    """Start nsjail. Every descriptor that is not returned is closed, whatever happens.

    The calling thread is the one that the jail dies with. group_bytes: memory of its control group; the worker is
    not in there yet. is_ahead: whether the worker waits for its documents.
    """
    nsjail = nsjail_binary()
    interpreter, stage = staged(with_packages(running_interpreter(), packages), nsjail)
    with ExitStack() as lent, ExitStack() as kept:  # lent to the child and closed here; kept unless this fails
        host_end, jail_end = socket.socketpair()
        lent.enter_context(jail_end)
        kept.enter_context(host_end).setblocking(False)
        kept.callback(os.close, log := memory_file("nsjail-log"))
        kept.callback(os.close, stderr := memory_file("worker-stderr"))
        lent.callback(os.close, code := bundle.open_bundle())
        lent.callback(os.close, config := memory_file("nsjail-config"))
        os.write(config, policy.config(interpreter, bounds, policy.unused_ids()).encode("ascii"))
        if group := cgroup.create(memory_bytes=group_bytes, processes=policy.PROCESSES):
            kept.callback(group.remove)
        inherited = (jail_end.fileno(), code)
        command = [str(nsjail), "--experimental_mnt", "new", "--config", f"/proc/self/fd/{config}"]
        command += ["--log_fd", str(log), "--quiet"]
        command += [word for descriptor in inherited for word in ("--pass_fd", str(descriptor))]
        command += ["--", *policy.arguments(interpreter, bundle.COMMAND, inherited, is_ahead=is_ahead)]
        process = _popen(command, Prelude(stage, os.getpid()), stderr=stderr, passed=(*inherited, config, log))
        kept.pop_all()
    return Started(process, host_end, group, log, stderr)


def _popen(
    command: list[str], prelude: Callable[[], None], *, stderr: int, passed: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    try:
        with left_out_of_fork(large_texts()):
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env={},
                pass_fds=passed,
                start_new_session=True,  # a Ctrl-C at the terminal is for us to handle
                preexec_fn=prelude,
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise JailUnavailable(f"{command[0]} could not be started: {error}", hint="run `rlm-local doctor`") from error
