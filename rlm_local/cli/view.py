"""What a person sees on stderr while a run goes on.

`LiveView` on a terminal, `PlainView` elsewhere; both draw what `event_lines` says, but leave the end of a run to
who prints the answer on stdout. Neither ever ends a run: when stderr goes away (a closed pipe, a full disk behind
it), they fall silent.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self, TextIO, cast

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from rlm_local.cli.streams import Patient
from rlm_local.events import (
    ROOT,
    Abandoned,
    Event,
    ItemsReplied,
    NodeEnded,
    NodeStarted,
    PageDone,
    Replied,
    Routed,
    RunEnded,
    RunResumed,
    RunStarted,
    SubCallDone,
    TokensCounted,
    TurnStarted,
    TurnTaken,
    TurnWritten,
    Validated,
)
from rlm_local.ports import Recorder
from rlm_local.trace import event_lines


class View(Recorder, Protocol):
    """A Recorder that keeps nothing: it shows events, from `with` to its end."""

    def note(self, line: str) -> None:
        """Show a line that belongs to no event."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Tee:
    """A Recorder that hands every event to several, in order: name first the one that keeps, then those that show.

    An error passes through, and no recorder behind it gets the event: nothing is shown that was not kept.
    """

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = recorders

    def write(self, event: Event) -> None:
        for recorder in self._recorders:
            recorder.write(event)


def open_view(*, quiet: bool = False, stream: TextIO | None = None, first: str = "starting the engine") -> View:
    """Return the view that fits `stream`, stderr by default: none with `quiet`, a live one on a terminal, else
    plain lines. first: what goes on before the first event."""
    stream = sys.stderr if stream is None else stream
    if quiet:
        return NoView()
    return LiveView(stream, first) if stream.isatty() else PlainView(stream)


class NoView:
    """Shows nothing (`-q`)."""

    def write(self, event: Event) -> None:
        """Ignore the event."""

    def note(self, line: str) -> None:
        """Ignore the line."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class PlainView(NoView):
    """Prints every event's lines as they are, each as soon as it happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = Patient(stream)

    def write(self, event: Event) -> None:
        self._show(_lines(event))

    def note(self, line: str) -> None:
        """Show a line that belongs to no event."""
        self._show([line])

    def _show(self, lines: Sequence[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()


class LiveView(NoView):
    """Prints every event's lines, and below them one line that tells what goes on now and for how long."""

    def __init__(self, stream: TextIO, first: str = "starting the engine") -> None:
        self._first = first
        file = cast("TextIO", Patient(stream))  # rich asks for no more than Patient has
        self._console = Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._progress = Progress(
            SpinnerColumn(),
            # A description is plain text: a "[red]" in it is three letters in brackets.
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            # Left to itself, rich would catch what others print on stdout and show it on stderr.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def write(self, event: Event) -> None:
        for line in _lines(event):
            self._console.print(Text(line, style=_style(event, line)))
        status = _status(event)
        if status is not None:
            self._clear_status()
        if status:
            self._progress.add_task(status)

    def note(self, line: str) -> None:
        """Show a line that belongs to no event."""
        self._console.print(Text(line))

    def __enter__(self) -> Self:
        self._progress.start()
        self._progress.add_task(self._first)  # an engine's weights may take a while to load
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clear_status()
        self._progress.stop()

    def _clear_status(self) -> None:
        for task in self._progress.task_ids:
            self._progress.remove_task(task)


def _lines(event: Event) -> list[str]:
    return [] if isinstance(event, RunEnded) else event_lines(event)


def _status(event: Event) -> str | None:
    """Return what goes on after an event, "" for nothing, None for the same as before."""
    match event:
        case RunStarted() | RunResumed():
            return "starting"
        case NodeStarted():
            return f"child {event.node} begins"
        case TurnStarted():
            return f"{_whose(event.node)}turn {event.number}: the model writes"
        case TurnWritten():
            return f"{_whose(event.node)}turn {event.number}: its code runs"
        case (
            SubCallDone()
            | PageDone()
            | NodeEnded()
            | Replied()
            | ItemsReplied()
            | Abandoned()
            | TokensCounted()
            | Validated()
            | Routed()
        ):
            return None
        case TurnTaken() | RunEnded():
            return ""


def _whose(node: str) -> str:
    return "" if node == ROOT else f"child {node}, "


def _style(event: Event, line: str) -> str:
    match event:
        case RunStarted() | RunResumed() | NodeStarted() | TurnStarted():
            return "bold"
        case TurnWritten() if line.startswith("  │"):
            return "cyan"
        case SubCallDone() | PageDone() | NodeEnded():
            return "magenta"
        case TurnTaken():
            return "dim"
        case _:
            return ""
