"""One engine process: its command line, its private socket, its lifeline and its last words."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from rlm_local.engine.client import HttpEngine
from rlm_local.errors import EngineUnavailable

_SOCKET_PATH_BYTES = 107  # sun_path of Linux, without its closing zero
_LAST_WORDS = 200  # lines; a traceback of several processes takes that many
_WARNING = "warning: "  # how the service begins a line that is for the user


class Program(Protocol):
    """An engine as it is started: its command line, and what is particular to it."""

    @property
    def model(self) -> str:
        """The name that requests use."""
        ...

    @property
    def runtime_dir(self) -> Path:
        """Where the socket's private folder is made."""
        ...

    @property
    def log(self) -> Path | None:
        """The process's own words are appended to it."""
        ...

    @property
    def stop_s(self) -> float:
        """How long the process may take to end when it is asked to; then it is killed."""
        ...

    @property
    def crash_seen_s(self) -> float:
        """Most seconds between a connection that breaks and a process that is seen to be dead."""
        ...

    def argv(self, socket: Path, lifeline_fd: int) -> list[str]:
        """Return the command line. The process must end when nobody holds the lifeline's other end any more."""
        ...

    def environment(self) -> Mapping[str, str]: ...

    def cause(self, said: Sequence[str]) -> str:
        """Return the line that tells why it ended, of its last ones."""
        ...

    async def connect(self, socket: Path) -> HttpEngine:
        """Return a client. Raises EngineUnavailable as long as nobody answers on the socket."""
        ...


class EngineProcess:
    """A started process. Await ready(), and stop() it however that ends.

    The process ends by itself when this one does, even by kill -9: it reads a pipe that we hold open.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._folder = _socket_folder(program.runtime_dir)
        self._said: deque[str] = deque(maxlen=_LAST_WORDS)
        self.warnings: deque[str] = deque(maxlen=20)  # sentences; those about the model are told while it loads
        reader, self._lifeline = os.pipe()
        try:
            self._popen = subprocess.Popen(
                program.argv(self.socket, reader),
                pass_fds=[reader],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=program.environment(),
                cwd="/",
                # A terminal's Ctrl-C goes to its whole group; the engine is ours to end, in our order.
                start_new_session=True,
            )
        except OSError:
            os.close(self._lifeline)
            self._folder.rmdir()
            raise
        finally:
            os.close(reader)
        assert self._popen.stderr is not None  # PIPE above
        self._listener = threading.Thread(target=self._listen, args=(self._popen.stderr, program.log), daemon=True)
        self._listener.start()

    @property
    def socket(self) -> Path:
        return self._folder / "s"

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def ending(self) -> str:
        """How the process ended, as the second half of a sentence."""
        status = self._popen.poll()
        if status is None:
            return "is running"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        self._listener.join(1.0)
        cause = self._program.cause(self._said)
        return f"ended with status {status}" + (f": {cause}" if cause else "")

    async def ready(self) -> HttpEngine:
        """Return a client once the process answers; loading may take as long as it takes.

        Raises EngineUnavailable with the process's last words when it ends instead.
        """
        began = time.monotonic()
        while self._popen.poll() is None:
            if self.socket.exists():
                with suppress(EngineUnavailable):  # bound and not yet listening, or just gone
                    return await self._program.connect(self.socket)
            # A vLLM binds its socket minutes before it answers, and needs the processor for itself meanwhile.
            await asyncio.sleep(min(0.5, max(0.02, 0.05 * (time.monotonic() - began))))
        raise EngineUnavailable(f"the engine for {self._program.model} did not start: it {self.ending}")

    async def has_died(self) -> bool:
        """Tell whether a broken connection means a dead process; waits a moment for the kernel to say so."""
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._popen.wait, self._program.crash_seen_s)
        return self._popen.poll() is not None

    async def stop(self) -> None:
        """End the process and remove its socket's folder. Safe to call twice, and when it is dead."""
        try:
            self._popen.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._program.stop_s):
                    await asyncio.to_thread(self._popen.wait)
        finally:
            self._popen.kill()  # nothing, if it has ended; also when we are cancelled while we wait
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # what a process that was killed has left of its own
            self._popen.wait()
            self._listener.join(1.0)
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1
            self.socket.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                self._folder.rmdir()

    def _listen(self, stderr: IO[bytes], log: Path | None) -> None:
        with stderr:
            for raw in stderr:
                if line := raw.decode("utf-8", "replace").strip():
                    self._said.append(line)
                    if line.startswith(_WARNING):
                        self.warnings.append(line.removeprefix(_WARNING))
                    if log is not None:
                        # A full disk must not end this thread: nobody would empty the pipe any more.
                        with suppress(OSError), log.open("a", encoding="utf-8") as file:
                            file.write(f"{line}\n")


def _socket_folder(runtime_dir: Path) -> Path:
    """Return a new folder, mode 0700, whose path leaves room for a socket's name."""
    longest = len(os.fsencode(runtime_dir)) + len("/e-12345678/s")
    parent = runtime_dir if longest <= _SOCKET_PATH_BYTES else Path(tempfile.gettempdir())
    try:
        runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="e-", dir=parent))
    except OSError as error:
        raise EngineUnavailable(
            f"the engine's socket cannot be made in {parent}: {error.strerror}",
            hint="make it a folder that you can write to, or set XDG_RUNTIME_DIR or RLM_LOCAL_HOME to one",
        ) from error


def quiet_environment() -> dict[str, str]:
    """Return our environment without anything that would make a library call home."""
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    return {**os.environ, **quiet, "PYTHONUNBUFFERED": "1"}
