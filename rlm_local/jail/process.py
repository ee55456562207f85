"""One nsjail and the worker in it: started, spoken to, interrupted, ended; nothing of it is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rlm_local.errors import JailUnavailable
from rlm_local.jail import cgroup, policy, wire
from rlm_local.jail.diagnose import failed_start, nsjail_binary
from rlm_local.jail.interpreter import running_interpreter
from rlm_local.jail.memory import closing, memory_file, read_tail, sealed_text
from rlm_local.jail.messages import parse_ready
from rlm_local.jail.stage import Prelude, staged
from rlm_local.limits import Limits

START_S = 30.0  # a cold start takes 50 ms; a machine that is this late is not going to
_EXIT_S = 2.0  # for nsjail to see its worker dead, before it is killed itself
_LOG_BYTES = 64 << 10


class JailEndedError(Exception):
    """The jail closed its socket: the worker, or nsjail, has died."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a jail is started with: the text, by memory file, and the frame that tells what is in it."""

    text: str
    frame: Mapping[str, wire.Json]
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Started:
    """What there is once nsjail runs."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    group: cgroup.Group | None
    log: int
    stderr: int


class Jail:
    """A running jail. One reader and any number of writers; every method but receive() and end() is immediate."""

    def __init__(self, started: _Started) -> None:
        self._process = started.process
        self._channel = started.channel
        self.group = started.group
        self._exited = asyncio.Event()
        self._write_lock = asyncio.Lock()
        self._worker_pidfd: int | None = None
        self._is_ending = False
        self._is_cut_off = False
        self.worker_pid = 0  # on the host
        self.python = ""  # version inside
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._note_exit, self._pidfd)

    @classmethod
    async def start(cls, opening: Opening) -> Jail:
        """Return a jail whose worker has opened the documents and locked itself in.

        Raises JailUnavailable, with nsjail's own words and a hint, when it does not come up.
        """
        started = _spawn(opening)
        jail = cls(started)
        with closing(started.log, started.stderr):
            try:
                async with asyncio.timeout(START_S):
                    await jail.send(opening.frame)
                    jail.python = parse_ready(await jail.receive())
                jail._find_worker()
            except (TimeoutError, JailEndedError, wire.WireError, OSError) as error:
                await jail.end()
                log, stderr = read_tail(started.log, _LOG_BYTES), read_tail(started.stderr, _LOG_BYTES)
                raise failed_start(log, stderr, started.process.returncode) from error
            except BaseException:
                await jail.end()
                raise
        return jail

    @property
    def has_ended(self) -> bool:
        """Whether no further cell can run: nsjail has died, also between cells, or a frame to it was cut off."""
        return self._is_cut_off or self._process.poll() is not None

    async def exited(self) -> None:
        """Wait until nsjail has died."""
        await self._exited.wait()

    async def send(self, frame: Mapping[str, object]) -> None:
        """Write one frame. Raises JailEndedError when nobody reads any more, WireError when it is too large."""
        data = wire.encode(frame, max_bytes=wire.FROM_HOST_BYTES)
        try:
            async with self._write_lock:
                self._is_cut_off = True  # until the whole frame is there: half of one leaves the other side lost
                await asyncio.get_running_loop().sock_sendall(self._channel, data)
                self._is_cut_off = False
        except OSError as error:
            raise JailEndedError(f"the jail closed its socket: {error}") from error

    async def receive(self) -> dict[str, wire.Json]:
        """Return the next frame. Raises JailEndedError at the end, WireError for what is no frame."""
        # Reading what is already there never yields, so a flood of frames would stop every clock of the host.
        await asyncio.sleep(0)
        header = await self._exactly(wire.HEADER_BYTES)
        count = wire.payload_bytes(header, max_bytes=wire.FROM_JAIL_BYTES)
        return wire.decode(await self._exactly(count))

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the cell."""
        self._signal_worker(signal.SIGINT)

    def kill(self) -> None:
        """End the worker; the jail's first process takes every other with it. nsjail then ends by itself."""
        if not self._signal_worker(signal.SIGKILL):
            self._process.kill()

    def cpu_s(self) -> float:
        """Return the processor time that the worker has used, as the kernel counts it; 0 when it has died."""
        try:
            stat = Path(f"/proc/{self.worker_pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return 0.0
        # The second field is the name in parentheses, and the jail may choose it.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def was_out_of_memory(self) -> bool:
        """Whether the kernel killed the worker for memory. Before end() only; False where there is no cgroup."""
        return self.group is not None and self.group.oom_kills() > 0

    async def end(self) -> None:
        """Kill what still lives, reap it, and remove its cgroup. Safe to call twice."""
        if self._is_ending:
            return
        self._is_ending = True
        try:
            self.kill()
            try:
                async with asyncio.timeout(_EXIT_S):
                    await self._exited.wait()
            except TimeoutError:
                self._process.kill()
                await self._exited.wait()
        finally:
            self._process.kill()
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._process.wait()  # it is dead, or dying of SIGKILL
            self._channel.close()
            if self._worker_pidfd is not None:
                os.close(self._worker_pidfd)
                self._worker_pidfd = None
            await self._remove_group()

    async def _remove_group(self) -> None:
        for _ in range(50):
            if self.group is None or self.group.remove():
                return
            await asyncio.sleep(0.01)  # the worker's last page is still being freed

    async def _exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < count:
            try:
                chunk = await loop.sock_recv(self._channel, min(count - len(data), 1 << 18))
            except OSError as error:
                raise JailEndedError(f"the jail closed its socket: {error}") from error
            if not chunk:
                raise JailEndedError(f"the jail closed its socket after {len(data)} of {count} bytes")
            data += chunk
        return bytes(data)

    def _note_exit(self, pidfd: int) -> None:
        # A dead process's descriptor stays readable, so it is watched no longer.
        asyncio.get_running_loop().remove_reader(pidfd)
        self._exited.set()

    def _find_worker(self) -> None:
        """Learn the worker's pid: nsjail's only child."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if len(children) != 1:
            raise JailEndedError(f"nsjail has {len(children)} children, not one worker")
        self.worker_pid = int(children[0])
        self._worker_pidfd = os.pidfd_open(self.worker_pid)

    def _signal_worker(self, number: signal.Signals) -> bool:
        """Send a signal; False when there is no worker to get it. By pidfd: a pid may be somebody else's by now."""
        if self._worker_pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(self._worker_pidfd, number)
        except ProcessLookupError:
            return False
        return True


def _spawn(opening: Opening) -> _Started:
    """Start nsjail. Every descriptor that is not returned is closed, whatever happens."""
    nsjail = nsjail_binary()
    interpreter, stage = staged(running_interpreter(), nsjail)
    with ExitStack() as lent, ExitStack() as kept:  # lent to the child and closed here; kept unless this fails
        text, text_bytes = sealed_text("documents", opening.text)
        lent.callback(os.close, text)
        memory_bytes = policy.address_space_bytes(
            opening.limits, text_bytes=text_bytes, str_bytes=sys.getsizeof(opening.text)
        )
        host_end, jail_end = socket.socketpair()
        lent.enter_context(jail_end)
        kept.enter_context(host_end).setblocking(False)
        kept.callback(os.close, log := memory_file("nsjail-log"))
        kept.callback(os.close, stderr := memory_file("worker-stderr"))
        lent.callback(os.close, config := memory_file("nsjail-config"))
        os.write(
            config,
            policy.config(
                interpreter,
                opening.limits,
                policy.unused_ids(),
                memory_bytes=memory_bytes,
                worker=policy.worker_files(),
            ).encode("ascii"),
        )
        groups: tuple[int, ...] = ()
        if group := cgroup.create(memory_bytes=memory_bytes + policy.TMP_BYTES, processes=policy.PROCESSES):
            kept.callback(group.remove)
            groups = group.open_procs()
        for descriptor in groups:
            lent.callback(os.close, descriptor)
        inherited = (jail_end.fileno(), text)
        command = [str(nsjail), "--experimental_mnt", "new", "--config", f"/proc/self/fd/{config}"]
        command += ["--log_fd", str(log), "--quiet"]
        command += [word for descriptor in inherited for word in ("--pass_fd", str(descriptor))]
        command += ["--", *policy.arguments(interpreter), *map(str, inherited)]
        prelude = Prelude(stage, groups, os.getpid())
        process = _popen(command, prelude, stderr=stderr, passed=(*inherited, config, log))
        kept.pop_all()
    return _Started(process, host_end, group, log, stderr)


def _popen(
    command: list[str], prelude: Callable[[], None], *, stderr: int, passed: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    try:
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
