"""The real `rlm-local ask` as a process, and the account of everything that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.processes import adopting_orphans
from rlm_local.cards import find_card, load_cards
from rlm_local.config import home
from rlm_local.errors import JailUnavailable, StoreError
from rlm_local.jail import nsjail_binary
from rlm_local.store import Store
from tests.interrupts import hear_interrupts

MODEL = "smollm2-135m"
# With these two the small model writes short turns, asks itself, and cites; no test depends on it.
QUESTION = "What does mooring cost a night?"
HARBOUR = (
    "The harbour office is open from 8 to 18.\nThe mooring fee is 42 euros a night.\nDogs must be kept on a lead.\n"
)
GONE_WITHIN_S = 2.0
_ENGINE = "rlm_local.engine.llama.service"


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc tells it; started_at tells it from a later one with the same pid."""

    pid: int
    started_at: int  # clock ticks since boot
    parent: int = field(compare=False)
    state: str = field(compare=False)
    command: str = field(compare=False)


class Asking:
    """A running `rlm-local ask`. `with` waits for its end, kills it if there is none, and closes its streams."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environ: dict[str, str],
        cwd: Path,
        stdin: bytes | None = None,
        on_terminal: bool = False,
    ) -> None:
        self._before = {process for process in processes() if process.state != "Z"}
        self._stderr, write_end = os.openpty() if on_terminal else os.pipe()
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=write_end,
            env=environ,
            cwd=cwd,
            start_new_session=True,  # a group of its own, for signals as a terminal sends them
            preexec_fn=hear_interrupts,
        )
        os.close(write_end)
        self._said = threading.Condition()
        self._shown = b""
        self._closed = False
        self._out = b""
        self._readers = [threading.Thread(target=read) for read in (self._read_stderr, self._read_stdout)]
        for reader in self._readers:
            reader.start()
        if stdin is not None:
            assert self._popen.stdin is not None
            with self._popen.stdin as pipe:
                pipe.write(stdin)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def out(self) -> str:
        """Everything on stdout, after the end."""
        return self._out.decode()

    @property
    def shown(self) -> str:
        """Everything on stderr so far: on a terminal with what moves its cursor."""
        return self._shown.decode(errors="replace")  # it may end within a character

    @property
    def err(self) -> list[str]:
        """The lines of stderr so far."""
        return self.shown.split("\n")[:-1]

    @property
    def answer(self) -> dict[str, Any]:
        """What --json printed: one line with one object."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)  # type: ignore[no-any-return]

    def wait_for(self, text: str, *, within_s: float = 60.0) -> None:
        """Return as soon as stderr has shown this text."""
        with self._said:
            self._said.wait_for(lambda: self._closed or text in self.shown, within_s)
        assert text in self.shown, f"{text!r} did not come within {within_s} s"

    def wait_for_out(self, text: str, *, within_s: float = 60.0) -> None:
        """Return as soon as stdout has held this text."""
        with self._said:
            self._said.wait_for(lambda: text.encode() in self._out, within_s)
        assert text.encode() in self._out, f"{text!r} did not come within {within_s} s; stderr: {self.shown}"

    def wait(self, *, within_s: float = 120.0) -> int:
        """Return the exit code, -N for the death by signal N."""
        code = self._popen.wait(within_s)
        for reader in self._readers:
            reader.join(GONE_WITHIN_S)  # a process of ours that lives on would hold them open
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal as a terminal does: to the whole group."""
        os.killpg(self._popen.pid, number)

    def started(self) -> list[Process]:
        """Return what lives of all that was started for this run, however deep and whoever is its parent now."""
        return [process for process in _below(os.getpid(), processes()) if process not in self._before]

    def engine(self) -> int:
        """Return its pid, as soon as there is one; so do the next two."""
        return self._one("an engine", lambda command: _ENGINE in command)

    def nsjail(self) -> int:
        return self._one("an nsjail", lambda command: "--experimental_mnt" in command)

    def worker(self) -> int:
        return self._one("a worker", lambda command: command.startswith("/python/bin/"))

    def left(self, *, within_s: float = GONE_WITHIN_S) -> list[Process]:
        """Return what still lives when the time is up; [] as soon as nothing does."""
        deadline = time.monotonic() + within_s
        while left := self._reaped():
            if time.monotonic() > deadline:
                return left
            time.sleep(0.02)
        return []

    def __repr__(self) -> str:
        return f"<ask with exit code {self._popen.poll()}, which said {self.err[-12:]}>"

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.started()]:
            if process.state != "Z":
                os.kill(process.pid, signal.SIGKILL)
        self._popen.kill()
        self._popen.wait()
        for reader in self._readers:
            reader.join()
        self._reaped()

    def _one(self, what: str, is_meant: Callable[[str], bool], *, within_s: float = 60.0) -> int:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if found := [process.pid for process in self.started() if is_meant(process.command)]:
                assert len(found) == 1, f"not {what} but {found}"
                return found[0]
            time.sleep(0.005)
        raise AssertionError(f"not {what} within {within_s} s: {self.started()}")

    def _reaped(self) -> list[Process]:
        """Bury the dead that have become ours, and return the living."""
        living = []
        for process in self.started():
            if process.state != "Z":
                living.append(process)
            elif process.parent == os.getpid() and process.pid != self._popen.pid:
                os.waitpid(process.pid, os.WNOHANG)
        return living

    def _read_stderr(self) -> None:
        with suppress(OSError):  # a terminal ends with EIO
            while piece := os.read(self._stderr, 65_536):
                with self._said:
                    self._shown += piece
                    self._said.notify_all()
        os.close(self._stderr)
        with self._said:
            self._closed = True
            self._said.notify_all()

    def _read_stdout(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stream:
            while chunk := os.read(stream.fileno(), 1 << 16):
                with self._said:
                    self._out += chunk
                    self._said.notify_all()


class Installation:
    """A home of its own with the test model linked into it, and a folder with documents."""

    def __init__(self, root: Path, weights: Path) -> None:
        self.home = root / "home"
        self.tmp = root / "tmp"
        self.folder = root / "documents"
        for folder in (self.home / "weights", self.tmp, self.folder):
            folder.mkdir(parents=True)
        (self.home / "weights" / MODEL).symlink_to(weights)
        (self.folder / "harbour.txt").write_text(HARBOUR)
        self.environ = {**os.environ, "RLM_LOCAL_HOME": str(self.home), "TMPDIR": str(self.tmp)}
        self.environ.pop("RLM_LOCAL_NSJAIL", None)

    @property
    def traces(self) -> list[Path]:
        return sorted(self.home.glob("traces/*"))

    def ask(
        self,
        *options: str,
        question: str = QUESTION,
        document: str = "harbour.txt",
        stdin: bytes | None = None,
        under: Sequence[str] = (),
        on_terminal: bool = False,
    ) -> Asking:
        """Start `rlm-local ask` with the test model. under: a command that runs it, as `unshare -rn`."""
        command = [*under, sys.executable, "-m", "rlm_local", "ask", question, document, "--model", MODEL, *options]
        return Asking(command, environ=self.environ, cwd=self.folder, stdin=stdin, on_terminal=on_terminal)

    def start(self, *arguments: str) -> Asking:
        """Start another command of `rlm-local` with the test model."""
        command = [sys.executable, "-m", "rlm_local", *arguments, "--model", MODEL]
        return Asking(command, environ=self.environ, cwd=self.folder)

    def serve(self, *options: str) -> Asking:
        """Start `rlm-local serve` with the test model on `self.socket`."""
        command = [sys.executable, "-m", "rlm_local", "serve", "--model", MODEL, "--uds", str(self.socket), *options]
        return Asking(command, environ=self.environ, cwd=self.folder)

    @property
    def socket(self) -> Path:
        return self.home / "s"

    def litter(self, *, within_s: float = GONE_WITHIN_S) -> list[Path]:
        """Return what a run has left, when the time is up, among the sockets and the temporary files; [] at once.

        An orphan that tidies up is for a moment nobody's child, so that Asking.left() has looked past one. TMPDIR is
        ours alone, /tmp is not.
        """
        run, deadline = self.home / "run", time.monotonic() + within_s
        while found := [*(run.iterdir() if run.exists() else ()), *self.tmp.iterdir()]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return found


def processes() -> list[Process]:
    """Return all processes of this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:  # it has ended in between
                continue
            found.append(Process(int(entry.name), int(fields[19]), int(fields[1]), fields[0], command.strip()))
    return found


def _below(pid: int, all_processes: list[Process]) -> Iterator[Process]:
    for process in all_processes:
        if process.parent == pid:
            yield process
            yield from _below(process.pid, all_processes)


@pytest.fixture(scope="session", autouse=True)
def _heeded_hangup() -> Iterator[None]:
    """Whoever runs these tests under nohup has them ignore SIGHUP, and what they start would ignore it too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def weights() -> Path:
    """Return the folder of the test model; skips, with how to pull it, when it is not here, or when no jail is."""
    try:
        nsjail_binary()
        return Store(home()).path(find_card(MODEL, load_cards())).parent.parent
    except (StoreError, JailUnavailable) as error:
        pytest.skip(f"{error} ({error.hint})")


@pytest.fixture(scope="session")
def orphans_are_ours() -> Iterator[None]:
    with adopting_orphans():
        yield


@pytest.fixture(scope="session")
def install(
    weights: Path, orphans_are_ours: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Installation]:
    return lambda: Installation(tmp_path_factory.mktemp("e2e"), weights)


@pytest.fixture
def installation(install: Callable[[], Installation]) -> Installation:
    return install()
