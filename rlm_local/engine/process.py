"""One engine process: its command line, its private socket, its lifeline and its last words."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rlm_local.engine.client import HttpEngine
from rlm_local.errors import EngineUnavailable

_SOCKET_PATH_BYTES = 107  # sun_path of Linux, without its closing zero
_STOP_S = 3.0
_WARNING = "warning: "  # how the service begins a line that is for the user
# Threads that wait for each other at a barrier spin by default. Where anything else wants a core (a cell,
# another program), each of some hundred barriers a token then costs a time slice; where nothing does,
# sleeping at once costs a wake-up each time. So they spin for some microseconds and sleep then. Tokens/s of
# one reply on 2 cores: beside another program 0.9 by default, 20 so (0.5B); alone 10 asleep at once, 24 so (1.5B).
SPIN_BRIEFLY = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}  # the second is GNU's, and goes first there
_CRASH_SEEN_S = 2.0  # between a connection that breaks and the process that is seen to be dead


@dataclass(frozen=True, slots=True)
class Launch:
    """How one engine process is started."""

    weights: Path
    model: str  # the name that requests use
    window_tokens: int  # prompt and reply of one request
    cells: int  # tokens that stay in memory, all prefixes together
    threads: int
    runtime_dir: Path  # the socket's private folder is made here
    log: Path | None  # the process's own words are appended to it

    def argv(self, socket: Path, lifeline_fd: int) -> list[str]:
        # -P: the current folder holds the user's documents, and must not lend us a numpy.py.
        command = [sys.executable, "-P", "-m", "rlm_local.engine.llama.service"]
        command += ["--weights", str(self.weights), "--model", self.model, "--socket", str(socket)]
        command += ["--ctx", str(self.window_tokens), "--cells", str(self.cells), "--threads", str(self.threads)]
        return [*command, "--lifeline-fd", str(lifeline_fd)]


class EngineProcess:
    """A started process. Await ready(), and stop() it however that ends.

    The process ends by itself when this one does, even by kill -9: it reads a pipe that we hold open.
    """

    def __init__(self, launch: Launch) -> None:
        self._model = launch.model
        self._folder = _socket_folder(launch.runtime_dir)
        self._said: deque[str] = deque(maxlen=20)
        self.warnings: deque[str] = deque(maxlen=20)  # sentences; those about the model are told while it loads
        reader, self._lifeline = os.pipe()
        try:
            self._popen = subprocess.Popen(
                launch.argv(self.socket, reader),
                pass_fds=[reader],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(),
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
        self._listener = threading.Thread(target=self._listen, args=(self._popen.stderr, launch.log), daemon=True)
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
        return f"ended with status {status}" + (f": {self._said[-1]}" if self._said else "")

    async def ready(self) -> HttpEngine:
        """Return a client once the process answers; loading may take as long as it takes.

        Raises EngineUnavailable with the process's last words when it ends instead.
        """
        while self._popen.poll() is None:
            if self.socket.exists():
                with suppress(EngineUnavailable):  # bound and not yet listening, or just gone
                    return await HttpEngine.connect(self._model, socket=self.socket, ours=True)
            await asyncio.sleep(0.02)
        raise EngineUnavailable(f"the engine for {self._model} did not start: it {self.ending}")

    async def has_died(self) -> bool:
        """Tell whether a broken connection means a dead process; waits a moment for the kernel to say so."""
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._popen.wait, _CRASH_SEEN_S)
        return self._popen.poll() is not None

    async def stop(self) -> None:
        """End the process and remove its socket's folder. Safe to call twice, and when it is dead."""
        try:
            self._popen.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await asyncio.to_thread(self._popen.wait)
        finally:
            self._popen.kill()  # nothing, if it has ended; also when we are cancelled while we wait
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


def _environment() -> dict[str, str]:
    """Return the engine's environment: ours, and nothing that would make a library call home."""
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    # ggml starts gdb for a backtrace when it aborts, which takes seconds and buries the reason.
    return {**SPIN_BRIEFLY, **os.environ, **quiet, "GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1"}
