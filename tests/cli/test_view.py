import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_local.cli.view import LiveView, NoView, PlainView, Tee, open_view
from rlm_local.errors import TraceError
from rlm_local.events import Event, RunEnded, SubCallDone, TurnStarted, TurnTaken, TurnWritten
from rlm_local.ports import Recorder
from rlm_local.types import Answer, Cell, CellResult, CellStatus, Citation, StopReason, SubCall, Turn, Usage

RUN: list[Event] = [
    TurnStarted("0", 1, "first"),
    TurnWritten("0", 1, "[red]I look.[/red]\n```repl\nprint([1])  # [bold]\n```"),
    SubCallDone("0", 1, 1, SubCall("what? [/]", ":smile: yes", Usage())),
    TurnTaken("0", 1, Turn("x", Cell("x"), Usage(), CellResult(CellStatus.OK, "\x1b[2J[1] " + "wide " * 60)), "ok"),
    RunEnded(Answer("42", StopReason.FINAL, confirmed=True, citations=(Citation("a.txt", 0, 5, 1, "is 42"),), turns=1)),
]
LINES = [
    "",
    "turn 1 · first",
    "  [red]I look.[/red]",
    "  │ print([1])  # [bold]",
    "  ↳ sub-call: what? [/] (9 characters) → :smile: yes",
    r"  \x1b[2J[1] " + ("wide " * 60).rstrip(),
]


class Kept:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)


class Full:
    def write(self, event: Event) -> None:
        raise TraceError("disk full")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_plain_view_prints_every_line_as_it_is_and_leaves_the_answer_to_stdout() -> None:
    stream = io.StringIO()
    with PlainView(stream) as view:
        for event in RUN:
            view.write(event)
    assert stream.getvalue().splitlines() == LINES


def test_a_live_view_prints_the_same_lines_and_takes_no_markup_from_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")  # no cursor movement, so that only the lines are left
    stream = Terminal()
    with LiveView(stream) as view:
        for event in RUN:
            view.write(event)
    shown = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert [line for line in shown if line] == [line for line in LINES if line]


def test_a_live_view_on_a_real_terminal_shows_what_goes_on_and_removes_it_at_the_end() -> None:
    master, slave = pty.openpty()
    # Reading only after the end is safe: the few hundred bytes fit the terminal's buffer.
    with open(slave, "w", encoding="utf-8") as stream, LiveView(stream) as view:  # noqa: PTH123 - a descriptor
        view.write(RUN[0])
        view.write(RUN[1])
    shown = b"".join(iter(lambda: read_terminal(master), b"")).decode()
    os.close(master)
    assert "turn 1: the model writes" in shown
    assert "turn 1: its code runs" in shown
    assert "[red]I look.[/red]" in shown
    assert shown.rindex("\x1b[2K") > shown.rindex("its code runs")  # the line is erased
    assert shown.count("\x1b[?25h") == 1  # the cursor is back


def read_terminal(master: int) -> bytes:
    """Return what the terminal holds, in pieces of the kernel's choice; b"" when nobody can write to it any more."""
    try:
        return os.read(master, 65_536)
    except OSError:  # EIO, in place of an end of file
        return b""


def test_a_live_view_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveView(Terminal()) as view:
        view.write(RUN[0])
        print("the answer")
    assert capsys.readouterr().out == "the answer\n"


@pytest.mark.parametrize(
    ("stream", "quiet", "kind"),
    [(io.StringIO(), False, PlainView), (Terminal(), False, LiveView), (Terminal(), True, NoView)],
)
def test_the_view_fits_its_stream(stream: io.StringIO, quiet: bool, kind: type) -> None:
    view = open_view(quiet=quiet, stream=stream)
    assert type(view) is kind
    assert isinstance(view, Recorder)


@pytest.mark.parametrize("kind", [PlainView, LiveView])
def test_a_note_is_a_line_as_it_is(kind: type[PlainView] | type[LiveView], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    with kind(stream) as view:
        view.note("warning: [red] is no colour")
    assert "warning: [red] is no colour\n" in stream.getvalue()


def test_a_quiet_view_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with open_view(quiet=True) as view:
        view.note("warning: x")
        for event in RUN:
            view.write(event)
    assert capsys.readouterr() == ("", "")


def test_a_tee_gives_every_event_to_all_and_shows_nothing_that_was_not_kept() -> None:
    first, second = Kept(), Kept()
    tee = Tee(first, second)
    for event in RUN:
        tee.write(event)
    assert first.events == second.events == RUN
    after = Kept()
    with pytest.raises(TraceError):
        Tee(Full(), after).write(RUN[0])
    assert after.events == []


@pytest.mark.parametrize("kind", [PlainView, LiveView])
def test_a_view_whose_reader_has_left_does_not_end_the_run(kind: type[PlainView] | type[LiveView]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream, kind(stream) as view:  # noqa: PTH123 - a descriptor
        for event in RUN:
            view.write(event)


def test_a_full_disk_behind_stderr_does_not_end_the_run() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as stream, PlainView(stream) as view:
        for event in RUN:
            view.write(event)


def test_a_process_whose_stderr_was_closed_by_its_reader_still_ends_with_its_own_exit_code() -> None:
    code = (
        "import sys\n"
        "from rlm_local.cli.view import open_view\n"
        "from rlm_local.events import TurnStarted\n"
        "with open_view() as view:\n"
        "    view.write(TurnStarted('0', 1, 'first'))\n"
        "    view.write(TurnStarted('0', 2, 'later'))\n"
        "print('warning', file=sys.stderr)\n"
        "print('answer')\n"
        "sys.exit(3)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writer, check=False)
    os.close(writer)
    assert (done.returncode, done.stdout) == (3, b"answer\n")
