"""A peer's process: run in nsjail, told its task, heard, and ended with all that it started.

Peers run model-written code in their own process. Here that process sees the system's programs, its own environment
and its side of the bench, all read-only, a /tmp of its own, and one socket. Its network is its own loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlm_local.errors import JailUnavailable
from rlm_local.jail import nsjail_binary
from rlm_local.jail.policy import JAILED_ID, PROCESSES
from rlm_local.jail.stage import Prelude, Stage

SOCKET_FOLDER = Path("/engine")  # inside, as the next
ENVIRONMENT = Path("/environment")
_PACKAGE = "bench.peers"  # what the folder of the side is called inside
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ssl", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_ADDRESS_SPACE_MIB = 8_192  # threads and libraries reserve far more than they use
_FILE_MIB = 256
_TMP_BYTES = 1 << 30
_LINE_BYTES = 1 << 20  # of what a peer may say in one line
_TAIL_BYTES = 4_096  # of its standard error that is kept
_END_S = 60.0


class PeerProcess:
    """A running peer. Its standard output is lines of JSON, of which heard() gives the next."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        # To kill by: asyncio's own kill() may reap the process, and then its exit status is lost.
        self._pidfd: int | None = os.pidfd_open(process.pid)
        self._errors = b""
        self._hearing = asyncio.create_task(self._hear_errors())

    @classmethod
    async def start(cls, python: Path, side: Path, sockets: Path, *, cpu_s: float) -> PeerProcess:
        """Start a side of the bench behind its walls. sockets: the folder that it finds at SOCKET_FOLDER.

        Raises JailUnavailable where there is no nsjail, or it cannot be started.
        """
        command = [str(nsjail_binary()), *_walls(python, side.parent, sockets, cpu_s), "--"]
        command += [str(ENVIRONMENT / "bin" / python.name), "-s", "-B", "-m", f"{_PACKAGE}.{side.stem}"]
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, env={}, limit=_LINE_BYTES,
                start_new_session=True, preexec_fn=Prelude(Stage(), os.getpid()),
            )  # fmt: skip
        except OSError as error:
            raise JailUnavailable(
                f"{command[0]} could not be started: {error}", hint="run `rlm-local doctor`"
            ) from error
        return cls(process)

    async def tell(self, what: Mapping[str, Any]) -> None:
        """Write the one object that a peer gets. One that has died or hears nothing is found out by what it says."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(what).encode())
            await self._process.stdin.drain()
            self._process.stdin.close()

    async def heard(self) -> dict[str, Any] | None:
        """Return the next object that it says, {} for what is none, None when it has ended."""
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
            said = json.loads(line) if line else None
        except ValueError:  # also a line that is longer than may be
            return {}
        return said if said is None or isinstance(said, dict) else {}

    async def last_words(self) -> str:
        """Return the exit status of one that has said its last, and the end of what it wrote to standard error."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        await self.end()
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        return f"status {self._process.returncode}" + (f": {lines[-1][-500:]}" if lines else "")

    async def end(self) -> None:
        """Kill it with all that it started, and wait until nobody holds its pipes. Safe to call twice."""
        if self._pidfd is None:
            return
        with contextlib.suppress(ProcessLookupError):
            # nsjail; its child, the first of a pid namespace, dies with it by the kernel's word.
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.close(self._pidfd)
        self._pidfd = None
        await self._process.wait()
        async with asyncio.timeout(_END_S):
            await self._hearing

    async def _hear_errors(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(1 << 16):
            self._errors = (self._errors + piece)[-_TAIL_BYTES:]


def _walls(python: Path, sides: Path, sockets: Path, cpu_s: float) -> list[str]:
    """Return nsjail's options. Its user is ours under another number; all but /tmp is read-only."""
    words = ["--mode", "o", "--really_quiet", "--experimental_mnt", "new", "--hostname", "peer", "--cwd", "/tmp"]
    words += ["--user", f"{JAILED_ID}::1", "--group", f"{JAILED_ID}::1", "--disable_proc", "--time_limit", "0"]
    words += ["--rlimit_as", str(_ADDRESS_SPACE_MIB), "--rlimit_fsize", str(_FILE_MIB), "--rlimit_core", "0"]
    words += ["--rlimit_nofile", "256", "--rlimit_nproc", str(4 * PROCESSES), "--rlimit_cpu", str(int(cpu_s) + 60)]
    words += ["--nice_level", str(max(5, os.getpriority(os.PRIO_PROCESS, 0)))]  # behind the engine, as our own jail
    words += ["--mount", f"none:/tmp:tmpfs:size={_TMP_BYTES},mode=0700"]
    for path in _seen(python):
        words += ["--bindmount_ro", str(path)]
    own = {ENVIRONMENT: python.parent.parent, Path("/side", *_PACKAGE.split(".")): sides, SOCKET_FOLDER: sockets}
    for inside, outside in own.items():
        words += ["--bindmount_ro", f"{outside.resolve()}:{inside}"]
    environment = {"PYTHONPATH": "/side", "PYTHONUTF8": "1", "HOME": "/tmp", "PATH": f"{ENVIRONMENT}/bin:/usr/bin:/bin"}
    environment |= {"MALLOC_ARENA_MAX": "2", "PYTHONHASHSEED": "0"}
    for name, value in environment.items():
        words += ["--env", f"{name}={value}"]
    return words


def _seen(python: Path) -> Iterable[Path]:
    """Return what lies in the jail where it lies outside: the system, and the Python below the environment."""
    paths = [Path(name) for name in (*_SYSTEM, *_DEVICES) if Path(name).exists()]
    base = python.resolve().parent.parent
    return paths if _is_below(base, paths) else [*paths, base]


def _is_below(path: Path, many: Iterable[Path]) -> bool:
    return any(path == one or one in path.parents for one in many)
