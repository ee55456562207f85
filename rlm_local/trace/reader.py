"""A trace file back into the events that it was written from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rlm_local import __version__
from rlm_local.errors import ConfigError, NoTrace, TraceError
from rlm_local.events import Event, RunEnded
from rlm_local.trace.codec import DecodeError, decode_event
from rlm_local.trace.writer import TRACE_VERSION
from rlm_local.types import Answer, JsonValue

_NOT_JSON = (json.JSONDecodeError, UnicodeDecodeError)
_WHERE = "traces are the .jsonl files that `rlm-local ask` names at its end"


@dataclass(frozen=True, slots=True)
class Trace:
    """A run as its file tells it."""

    path: Path
    started_at: datetime  # UTC
    events: tuple[Event, ...]
    times_s: tuple[float, ...]  # of each event, since the start
    truncated: bool  # the last line was cut, as by kill -9 or a full disk; all others are here
    whole_bytes: int  # of the file, up to the end of its last whole line

    @property
    def answer(self) -> Answer | None:
        """How the run ended; None when the trace stops before."""
        last = self.events[-1]
        return last.answer if isinstance(last, RunEnded) else None


@dataclass(frozen=True, slots=True)
class _Line:
    event: Event
    t: float
    at: datetime | None


def read_trace(path: Path) -> Trace:
    """Read a whole trace file; at least one event.

    Raises TraceError when it was written by another version, when no line is whole, and for any line that is damaged,
    by its number; only the last line may be cut. Raises NoTrace for what no run has written: another file, or none.
    """
    if path.is_dir():
        raise NoTrace(f"{path} is a folder, but a trace is a file", hint=f"name one of its files: {path}/*.jsonl")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NoTrace(f"cannot read the trace {path}: {error.strerror}") from error
    *whole, rest = data.split(b"\n")
    if data and (data.lstrip()[:1] != b"{" or (whole and not _says_event(whole[0]))):
        raise NoTrace(
            f"{path} is not a trace of rlm-local: its first line is no event",
            hint=_WHERE,
        )
    lines = [_read_line(path, number, raw) for number, raw in enumerate(whole, start=1)]
    truncated, whole_bytes = False, len(data) - len(rest)
    if rest:
        try:
            # Whole but for its newline, as an editor may leave it.
            lines.append(_read_line(path, len(lines) + 1, rest))
            whole_bytes = len(data)
        except _DamagedLine:
            truncated = True
    if not lines:
        if not truncated:
            raise NoTrace(f"{path} is not a trace: it holds nothing", hint=_WHERE)
        raise TraceError(f"{path} is not a trace: it holds one line that was cut")
    started_at = lines[0].at
    if started_at is None:
        raise _DamagedLine(path, 1, "the first line has no time under at")
    events, times_s = tuple(line.event for line in lines), tuple(line.t for line in lines)
    return Trace(path, started_at, events, times_s, truncated, whole_bytes)


def _says_event(raw: bytes) -> bool:
    """Say whether a line may be a trace's first one, damaged or of another version."""
    return b'"event"' in raw or b'"seq"' in raw


class _DamagedLine(TraceError):
    def __init__(self, path: Path, number: int, what: str) -> None:
        super().__init__(
            f"{path}: line {number} is damaged: {what}",
            hint=f"the lines before it are whole: cut the file before line {number} to read them"
            if number > 1
            else "nothing of it can be read; run the question again",
        )


def _read_line(path: Path, number: int, raw: bytes) -> _Line:
    """Return one line. Raises TraceError for another version, _DamagedLine for anything else that is wrong."""
    try:
        obj = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        what = f"not JSON ({error})" if isinstance(error, _NOT_JSON) else "it has thousands of digits or levels"
        raise _DamagedLine(path, number, what) from error
    if not isinstance(obj, dict):
        raise _DamagedLine(path, number, f"not an object but {type(obj).__name__}")
    _check_version(path, number, obj)
    seq, t, at = obj.pop("seq", None), obj.pop("t", None), obj.pop("at", None)
    if seq != number - 1:
        raise _DamagedLine(path, number, f"seq is {seq!r}, but must be {number - 1}: a line is missing or doubled")
    if isinstance(t, bool) or not isinstance(t, int | float):
        raise _DamagedLine(path, number, f"t is {t!r}, but must be seconds since the start")
    try:
        # ConfigError: Limits checks its own bounds.
        return _Line(decode_event(obj), float(t), None if at is None else datetime.fromisoformat(str(at)))
    except (DecodeError, ConfigError, ValueError) as error:
        raise _DamagedLine(path, number, str(error)) from error


def _check_version(path: Path, number: int, obj: dict[str, JsonValue]) -> None:
    """Take "v" out of a line's object."""
    found = obj.pop("v", None)
    if isinstance(found, bool) or not isinstance(found, int):
        raise _DamagedLine(path, number, f"v is {found!r}, but must be the trace's version")
    if found != TRACE_VERSION:
        wrote = obj.get("version")
        # Two builds on the way to a release have one name and may have two versions of traces.
        is_other = isinstance(wrote, str) and wrote != __version__
        use = f"use rlm-local {wrote}" if is_other else "use the rlm-local that wrote it"
        raise TraceError(f"{path}: trace version {found}, this build reads {TRACE_VERSION}; re-run, or {use}")
