"""One jail: its worker spoken to, interrupted, ended; nothing of it is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass

from rlm_local.jail import policy, wire
from rlm_local.jail.channel import Channel, JailEndedError
from rlm_local.jail.diagnose import failed_start
from rlm_local.jail.launch import Started, spawn
from rlm_local.jail.layers import namespaces, require, rights
from rlm_local.jail.memory import read_tail
from rlm_local.jail.messages import parse_ready, parse_waiting
from rlm_local.jail.packages import NO_PACKAGES, Packages
from rlm_local.jail.proc import read_proc
from rlm_local.limits import Limits
from rlm_local.texts import SealedText

START_S = 30.0  # a cold start takes 50 ms; a machine that is this late is not going to
_EXIT_S = 2.0  # for nsjail to see its worker dead, before it is killed itself
_LOG_BYTES = 64 << 10
_CHILD_EVERY_S = 0.001  # how often it is looked whether nsjail has made its worker
# Of a jail that waits for its documents; lowered to the run's own before the first byte of the model's code.
_AHEAD = policy.Bounds(address_space_bytes=1 << 40, cpu_s=1 << 24)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a run gives its jail: the text, by memory file, the frame that tells what is in it, and its packages."""

    text: SealedText
    frame: Mapping[str, wire.Json]
    limits: Limits
    packages: Packages = NO_PACKAGES

    @property
    def bounds(self) -> policy.Bounds:
        return policy.Bounds.of(self.limits, self.text.size_bytes)

    def message(self) -> dict[str, wire.Json]:
        """Return the whole first frame."""
        text: dict[str, wire.Json] = {
            "chars": self.text.chars,
            "char_bytes": self.text.char_bytes,
            "is_ascii": self.text.is_ascii,
        }
        bounds = self.bounds
        own: dict[str, wire.Json] = {"address_space_bytes": bounds.address_space_bytes, "cpu_s": bounds.cpu_s}
        return {"op": "open", **self.frame, **own, "text": text}


class Jail:
    """A running jail. One reader and any number of writers; every method but receive() and end() is immediate."""

    def __init__(self, started: Started) -> None:
        self._started = started
        self._process = started.process
        self._channel = Channel(started.channel)
        self.group = started.group
        self._exited = asyncio.Event()
        self._worker_pidfd: int | None = None
        self._has_logs = True
        self._is_ending = False
        self._is_paused = False
        self.worker_pid = 0  # on the host
        self.python = ""  # version inside
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._note_exit, self._pidfd)

    @classmethod
    async def start(cls, opening: Opening) -> Jail:
        """Return a jail whose worker has opened the documents and locked itself in.

        Raises JailUnavailable, with nsjail's own words and a hint, when it does not come up.
        """
        bounds = opening.bounds.with_room(opening.text.size_bytes)
        group_bytes = _group_bytes(opening)
        jail = cls(spawn(bounds, opening.packages, group_bytes=group_bytes, is_ahead=False))
        await jail._come_up(jail._enrol())
        await jail.open(opening)
        return jail

    @classmethod
    async def start_ahead(cls, packages: Packages = NO_PACKAGES) -> Jail:
        """Return a jail that waits for its documents, for open(). Raises as start() does."""
        jail = cls(spawn(_AHEAD, packages, group_bytes=_group_bytes(None), is_ahead=True))
        await jail._come_up(jail._enrol(), jail._wait())
        return jail

    async def open(self, opening: Opening) -> None:
        """Hand over the documents; the worker has then locked itself in. Once, before the first cell.

        Raises JailUnavailable when that fails; the jail has ended then.
        """
        await self._come_up(self._open(opening))
        self._close_logs()

    async def _come_up(self, *steps: Coroutine[None, None, None]) -> None:
        """Take the steps of a start, and end what does not get through them."""
        try:
            async with asyncio.timeout(START_S):
                for step in steps:
                    await step
        except (TimeoutError, JailEndedError, wire.WireError, OSError, ValueError) as error:
            await self.end(keep_logs=True)
            log, stderr = (read_tail(file, _LOG_BYTES) for file in (self._started.log, self._started.stderr))
            self._close_logs()
            raise failed_start(log, stderr, self._process.returncode, str(error)) from error
        except BaseException:
            await self.end()
            raise
        finally:
            for step in steps:
                step.close()

    async def _enrol(self) -> None:
        """Find the worker and put it into the control group, both while the interpreter is still starting.

        It holds then what it had before, and cannot get out: every thread that it makes is in the group as well.
        """
        while (pid := self._started.worker_pid()) is None:
            if self._process.poll() is not None:
                raise JailEndedError(f"nsjail ended with status {self._process.returncode} before it made a worker")
            await asyncio.sleep(_CHILD_EVERY_S)
        self.worker_pid = pid
        self._worker_pidfd = os.pidfd_open(pid)
        if self.group is not None:
            await asyncio.to_thread(self.group.add, pid)

    async def _wait(self) -> None:
        parse_waiting(await self.receive())

    async def _open(self, opening: Opening) -> None:
        await self._channel.send(opening.message(), descriptor=opening.text.fileno())
        if self.group is not None:
            self.group.allow_memory(_group_bytes(opening))
        apart = namespaces(self.worker_pid)  # while the worker opens the documents
        self.python = parse_ready(await self.receive())
        require((*apart, *rights(self.worker_pid)))
        self._require_bounds(opening.bounds)

    def _require_bounds(self, bounds: policy.Bounds) -> None:
        """Raise JailEndedError unless the kernel holds the worker to these: it has set them itself."""
        text = read_proc(self.worker_pid, "limits")
        held = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}
        for name, bound in (("Max address space", bounds.address_space_bytes), ("Max cpu time", bounds.cpu_s)):
            if held.get(name) != [str(bound)] * 2:
                raise JailEndedError(f"the worker's {name} is {held.get(name)}, not {bound}")

    @property
    def has_ended(self) -> bool:
        """Whether no further cell can run: nsjail has died, also between cells, or a frame to it was cut off."""
        return self._channel.is_cut_off or self._process.poll() is not None

    async def exited(self) -> None:
        """Wait until nsjail has died."""
        await self._exited.wait()

    async def send(self, frame: Mapping[str, object]) -> None:
        """See Channel.send."""
        await self._channel.send(frame)

    async def receive(self) -> dict[str, wire.Json]:
        """See Channel.receive."""
        return await self._channel.receive()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the cell."""
        self._signal_worker(signal.SIGINT)

    def pause(self) -> None:
        """Stop every thread of the worker: between two cells nothing of an earlier one may use the processor."""
        self._is_paused = True
        self._signal_worker(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the worker go on after pause(). Nothing where it is not paused: a signal would wake it for that alone."""
        if self._is_paused:
            self._is_paused = False
            self._signal_worker(signal.SIGCONT)

    def kill(self) -> None:
        """End the worker; the jail's first process takes every other with it. nsjail then ends by itself."""
        if not self._signal_worker(signal.SIGKILL):
            self._process.kill()

    def cpu_s(self) -> float:
        """Return the processor time that the worker has used, as the kernel counts it; 0 when it has died."""
        try:
            stat = read_proc(self.worker_pid, "stat")
        except OSError:
            return 0.0
        # The second field is the name in parentheses, and the jail may choose it.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def was_out_of_memory(self) -> bool:
        """Whether the kernel killed the worker for memory. Before end() only; False where there is no cgroup."""
        return self.group is not None and self.group.oom_kills() > 0

    async def end(self, *, keep_logs: bool = False) -> None:
        """Kill what still lives, reap it, and remove its cgroup. Safe to call twice."""
        if not keep_logs:
            self._close_logs()
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

    def _close_logs(self) -> None:
        if self._has_logs:
            self._has_logs = False
            self._started.close_logs()

    async def _remove_group(self) -> None:
        for _ in range(50):
            if self.group is None or self.group.remove():
                return
            await asyncio.sleep(0.01)  # the worker's last page is still being freed

    def _note_exit(self, pidfd: int) -> None:
        # A dead process's descriptor stays readable, so it is watched no longer.
        asyncio.get_running_loop().remove_reader(pidfd)
        self._exited.set()

    def _signal_worker(self, number: signal.Signals) -> bool:
        """Send a signal; False when there is no worker to get it. By pidfd: a pid may be somebody else's by now."""
        if self._worker_pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(self._worker_pidfd, number)
        except ProcessLookupError:
            return False
        return True


def _group_bytes(opening: Opening | None) -> int:
    """Return what a control group is to hold: the cells' memory and files; the text is charged to who sealed it.

    The text is counted again, for a Python that decodes it. None: a worker that waits, and needs a few MiB.
    """
    cells = Limits().cell_memory_bytes if opening is None else opening.bounds.address_space_bytes
    return cells + policy.TMP_BYTES
