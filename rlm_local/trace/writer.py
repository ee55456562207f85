"""A run's events on disk: one JSON object a line, there for good before the run goes on.

A line is {"v": 3, "seq": n, "t": seconds since the start, "event": ..., fields of the event}; the first line also
has "at", the time of the start. The file holds questions, code and what documents said: mode 0600, in a folder
that is made with 0700.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from rlm_local.errors import TraceError
from rlm_local.events import Event, RunEnded
from rlm_local.trace.codec import encode_event
from rlm_local.types import JsonObject

TRACE_VERSION = 7


def default_path(folder: Path) -> Path:
    """Return where a new run's trace goes: the time in UTC and a random part, nothing of what was asked."""
    return folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.jsonl"


@dataclass(frozen=True, slots=True)
class Written:
    """What a trace holds already."""

    events: int
    whole_bytes: int  # up to the end of the last whole line
    ended_at_s: float  # its last event, since the start


class TraceWriter:
    """The Recorder that keeps a trace file. Each event has reached the kernel when write() returns, so it outlives
    our own death; the end of the run is synced to the disk.

    Makes the folder at once, and the file with the first event: a run that never began leaves no trace. Raises
    TraceError when it cannot, or the file is there.
    """

    def __init__(self, path: Path, *, behind: Written | None = None) -> None:
        """behind: what the file holds of a run that goes on; whatever stands behind it is cut off."""
        self.path = path
        self._closed = False
        if behind is None:
            _prepare(path)
            self._fd, self._seq, self._bytes = -1, 0, 0
        else:
            self._fd, self._bytes = _opened_behind(path, behind.whole_bytes)
            self._seq = behind.events
        self._started_s = time.monotonic() - (behind.ended_at_s if behind else 0.0)

    def write(self, event: Event) -> None:
        """Append one event. Raises TraceError when the disk does not take it; the file then ends with the event
        before, whole."""
        if self._closed:
            raise TraceError(f"{self.path}: closed before event {self._seq} ({type(event).__name__})")
        if self._seq == 0:
            self._started_s = time.monotonic()
        line = self._line(event)
        if self._fd < 0:
            self._fd = _create(self.path)
        try:
            _write_all(self._fd, line)
            if isinstance(event, RunEnded):
                os.fsync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._bytes)
                os.lseek(self._fd, self._bytes, os.SEEK_SET)
            raise TraceError(
                f"{self.path}: cannot write event {self._seq}: {error.strerror}",
                hint="free some space there, or name another folder with --trace-dir",
            ) from error
        self._bytes += len(line)
        self._seq += 1

    def close(self) -> None:
        """Sync and close the file. Safe to call twice."""
        self._closed = True
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):  # what the kernel took is in the file; a failed sync loses no event now
            os.fsync(fd)
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, event: Event) -> bytes:
        obj: JsonObject = {"v": TRACE_VERSION, "seq": self._seq, "t": round(time.monotonic() - self._started_s, 3)}
        if self._seq == 0:
            obj["at"] = datetime.now(UTC).isoformat(timespec="seconds")
        obj |= encode_event(event)
        try:
            return _dumps(obj)
        except (ValueError, RecursionError) as error:
            # Python refuses to write whole numbers of more than 4300 digits, and lists nested too deep.
            raise TraceError(
                f"{self.path}: event {self._seq} ({type(event).__name__}) has no JSON form: {error}"
            ) from error


def _dumps(obj: JsonObject) -> bytes:
    text = json.dumps(obj, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which only \uXXXX can carry
        return (json.dumps(obj, allow_nan=False, separators=(",", ":")) + "\n").encode()


def _prepare(path: Path) -> None:
    """Make the folder, and refuse now what would be refused at the first event, after minutes perhaps."""
    try:
        if not path.parent.is_dir():
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _cannot_create(path, error) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _cannot_create(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    if os.path.lexists(path):
        raise _is_there(path)


def _create(path: Path) -> int:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise _is_there(path) from error
    except OSError as error:
        raise _cannot_create(path, error) from error
    # So that nobody lets the run go on while it does. Some file systems have no locks; then nobody can tell.
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _opened_behind(path: Path, whole_bytes: int) -> tuple[int, int]:
    """Return the descriptor of a trace that goes on, and its bytes."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise TraceError(f"cannot write the trace {path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, whole_bytes)
        os.lseek(fd, whole_bytes, os.SEEK_SET)
        if os.pread(fd, 1, whole_bytes - 1) != b"\n":  # its last line is whole but for that
            whole_bytes += os.write(fd, b"\n")
    except BlockingIOError as error:
        os.close(fd)
        raise TraceError(f"{path}: its run still goes on in another process", hint="wait for it, or end it") from error
    except OSError as error:
        os.close(fd)
        raise TraceError(f"cannot write the trace {path}: {error.strerror}") from error
    return fd, whole_bytes


def _is_there(path: Path) -> TraceError:
    return TraceError(f"{path} is there already, and a trace is never overwritten", hint="name a new file")


def _cannot_create(path: Path, error: OSError) -> TraceError:
    return TraceError(
        f"cannot create the trace {path}: {error.strerror}",
        hint="make its folder writable, or name another one with --trace-dir",
    )


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
