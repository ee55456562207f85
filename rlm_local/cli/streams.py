"""Standard streams as they come: closed, full, left by their reader, or narrower than Unicode."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from typing import TextIO

import click

from rlm_local.errors import RlmError


def mend_standard_streams() -> None:
    """Make the streams safe to write to. For a process of our own only."""
    # A closed stream's number would go to the next file that is opened, and what is printed would land there.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 (for the whole process)
    # An answer may hold what the terminal's encoding, or any encoding (a lone surrogate), cannot carry.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def is_unicode(stream: TextIO) -> bool:
    """Tell whether every character can be written."""
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def write_result(text: str, *, kept: str) -> None:
    """Write what was asked for, and a newline, to stdout.

    kept: where else it is, told when it cannot be written. Raises RlmError then; a reader that has left gets
    BrokenPipeError, as everywhere.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        turn_to_null(sys.stdout)  # else Python would try once more at its end, and fail with a status of its own
        raise RlmError(f"standard output takes no more: {error.strerror}", hint=kept) from error


def write_lines(lines: Iterable[str]) -> None:
    """Write a listing to stdout in one piece.

    A reader that leaves after the first lines, as `head`, has all of them by then: written line by line it would be a
    failure or none, by who was faster.
    """
    if text := "".join(f"{line}\n" for line in lines):
        click.echo(text, nl=False)


def turn_to_null(stream: TextIO) -> None:
    """Have everything that is still to be written to a stream vanish."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):  # ValueError: a stream without a descriptor has nothing to turn
        return


class Patient:
    """A text stream whose reader may leave: from the first failed write on it swallows everything.

    The stream's file descriptor is then turned to /dev/null, so that what others write to it, and what Python
    flushes at its end, does not fail either.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = False
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        if not self._gone:
            try:
                self._stream.write(text)
            except OSError:
                self._give_up()
        return len(text)

    def flush(self) -> None:
        if not self._gone:
            try:
                self._stream.flush()
            except OSError:
                self._give_up()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _give_up(self) -> None:
        self._gone = True
        turn_to_null(self._stream)
