"""Writer and reader together: what is written is what is read, whatever happens to the file in between."""

import json
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rlm_local import __version__
from rlm_local.errors import TraceError
from rlm_local.events import Event, TurnWritten
from rlm_local.ports import Recorder
from rlm_local.trace import TraceWriter, Written, default_path, read_trace
from rlm_local.types import Answer, StopReason


def written(path: Path, events: list[Event]) -> Path:
    with TraceWriter(path) as writer:
        for event in events:
            writer.write(event)
    return path


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Have the kernel refuse to let any file grow beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_written_run_is_read_back_as_it_was(tmp_path: Path, run: list[Event]) -> None:
    trace = read_trace(written(tmp_path / "run.jsonl", run))
    assert list(trace.events) == run
    assert not trace.truncated
    assert trace.answer is not None
    assert trace.answer.value == "30 days"
    assert list(trace.times_s) == sorted(trace.times_s)
    assert datetime.now(UTC) - trace.started_at < timedelta(minutes=5)


def test_a_trace_is_for_its_owner_alone(tmp_path: Path, run: list[Event]) -> None:
    path = written(tmp_path / "state" / "traces" / "run.jsonl", run)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_each_line_says_version_place_and_time_and_the_first_the_date(tmp_path: Path, run: list[Event]) -> None:
    lines = [json.loads(line) for line in written(tmp_path / "run.jsonl", run).read_text().splitlines()]
    assert [(line["v"], line["seq"]) for line in lines] == [(7, number) for number in range(len(run))]
    assert ["at" in line for line in lines] == [True] + [False] * (len(run) - 1)
    assert lines[2]["event"] == "turn_written"


def test_an_event_is_in_the_file_when_write_returns(tmp_path: Path, run: list[Event]) -> None:
    writer = TraceWriter(tmp_path / "run.jsonl")
    assert isinstance(writer, Recorder)
    for number, event in enumerate(run, start=1):
        writer.write(event)
        assert read_trace(writer.path).events == tuple(run[:number])
    writer.close()


def test_a_trace_cut_by_a_kill_gives_all_whole_lines_wherever_it_was_cut(tmp_path: Path, run: list[Event]) -> None:
    data = written(tmp_path / "run.jsonl", run).read_bytes()
    whole = data[: data.rindex(b"\n", 0, -1) + 1]  # without the last line
    cut = tmp_path / "cut.jsonl"
    for length in range(len(whole) + 1, len(data) - 1):
        cut.write_bytes(data[:length])
        trace = read_trace(cut)
        assert (trace.truncated, list(trace.events), trace.answer) == (True, run[:-1], None)


def test_a_last_line_without_its_newline_is_whole(tmp_path: Path, run: list[Event]) -> None:
    path = written(tmp_path / "run.jsonl", run)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert (read_trace(path).truncated, list(read_trace(path).events)) == (False, run)


@pytest.mark.parametrize("text", ["a lone \ud800 surrogate", "line\u2028separators\x85\x0c and Gebühr", "\x00"])
def test_any_text_survives_the_file(tmp_path: Path, run: list[Event], text: str) -> None:
    events = [run[0], TurnWritten("0", 1, text)]
    assert list(read_trace(written(tmp_path / "run.jsonl", events)).events) == events


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path, run: list[Event]) -> None:
    path = written(tmp_path / "run.jsonl", run)
    with pytest.raises(TraceError, match="is there already"):
        TraceWriter(path)
    assert list(read_trace(path).events) == run


def test_a_folder_that_cannot_be_made_is_named_with_the_repair(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run.jsonl", tmp_path / "file" / "deep" / "run.jsonl"):
        with pytest.raises(TraceError, match=f"cannot create the trace {re.escape(str(path))}: ") as caught:
            TraceWriter(path)
        assert "--trace-dir" in caught.value.hint


def test_a_full_disk_leaves_whole_lines_and_says_which_event_is_missing(tmp_path: Path, run: list[Event]) -> None:
    with TraceWriter(tmp_path / "run.jsonl") as writer:
        writer.write(run[0])
        with files_of_at_most(writer.path.stat().st_size + 20):
            with pytest.raises(TraceError, match=r"run\.jsonl: cannot write event 1: ") as caught:
                writer.write(run[1])
            assert "--trace-dir" in caught.value.hint
        assert read_trace(writer.path).events == (run[0],)
        writer.write(run[1])  # there is space again
    trace = read_trace(writer.path)
    assert (trace.events, trace.truncated) == (tuple(run[:2]), False)


def test_an_answer_without_a_json_form_is_refused_and_the_trace_goes_on(tmp_path: Path, run: list[Event]) -> None:
    endless = type(run[-1])(Answer(10**5000, StopReason.FINAL, confirmed=True))
    with TraceWriter(tmp_path / "run.jsonl") as writer:
        writer.write(run[0])
        with pytest.raises(TraceError, match=r"event 1 \(RunEnded\) has no JSON form"):
            writer.write(endless)
        writer.write(run[-1])
    assert read_trace(writer.path).events == (run[0], run[-1])


def test_a_closed_trace_takes_no_more_events(tmp_path: Path, run: list[Event]) -> None:
    writer = TraceWriter(tmp_path / "run.jsonl")
    writer.close()
    writer.close()
    with pytest.raises(TraceError, match="closed before event 0"):
        writer.write(run[0])


def test_the_file_and_its_clock_begin_with_the_first_event(tmp_path: Path, run: list[Event]) -> None:
    with TraceWriter(tmp_path / "traces" / "run.jsonl") as writer:
        assert list(writer.path.parent.iterdir()) == []  # a run that never begins leaves no trace
        writer.write(run[0])
    assert read_trace(writer.path).times_s == (0.0,)


def test_a_trace_of_another_version_is_refused_with_both_and_who_wrote_it(tmp_path: Path, run: list[Event]) -> None:
    path = written(tmp_path / "run.jsonl", run)
    path.write_text(path.read_text().replace('"v":7', '"v":9').replace('"version":"0.1.0"', '"version":"4.2.0"'))
    with pytest.raises(TraceError, match=r"trace version 9, this build reads 7; re-run, or use rlm-local 4\.2\.0$"):
        read_trace(path)
    path.write_text(path.read_text().replace('"version":"4.2.0"', f'"version":"{__version__}"'))
    with pytest.raises(TraceError, match=r"re-run, or use the rlm-local that wrote it$"):
        read_trace(path)


@pytest.mark.parametrize(
    ("number", "line", "what"),
    [
        (3, b"{", "not JSON"),
        (3, b"\xff", "not JSON"),
        (3, b"", "not JSON"),
        (3, b"[" * 100_000, "it has thousands of digits or levels"),
        (3, b"[1]", "not an object but list"),
        (3, b"{}", "v is None, but must be the trace's version"),
        (3, b'{"v":7,"seq":7,"t":0}', "seq is 7, but must be 2: a line is missing or doubled"),
        (3, b'{"v":7,"seq":2,"t":"x"}', "t is 'x', but must be seconds since the start"),
        (
            3,
            b'{"v":7,"seq":2,"t":0,"event":"turn_written","node":"0","number":1}',
            "TurnWritten needs node, number, text; found node, number",
        ),
        (
            1,
            b'{"v":7,"seq":0,"t":0,"event":"turn_started","node":"0","number":1,"state":""}',
            "the first line has no time under at",
        ),
        (
            1,
            b'{"v":7,"seq":0,"t":0,"at":"noon","event":"turn_started","node":"0","number":1,"state":""}',
            "Invalid isoformat",
        ),
    ],
)
def test_a_damaged_line_is_refused_by_its_number(
    tmp_path: Path, run: list[Event], number: int, line: bytes, what: str
) -> None:
    path = written(tmp_path / "run.jsonl", run)
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}: line {number} is damaged: {what}")
    assert (f"cut the file before line {number} to read them" in caught.value.hint) is (number > 1)


def test_a_line_whose_limits_contradict_is_damaged(tmp_path: Path, run: list[Event]) -> None:
    path = written(tmp_path / "run.jsonl", run)
    path.write_text(path.read_text().replace('"max_turns":12', '"max_turns":0'))
    with pytest.raises(TraceError, match=r"line 1 is damaged: .*max_turns is 0"):
        read_trace(path)


@pytest.mark.parametrize(("data", "found"), [(b"", "nothing"), (b'{"v":7,"se', "one line that was cut")])
def test_a_file_without_a_whole_line_is_no_trace(tmp_path: Path, data: bytes, found: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(data)
    with pytest.raises(TraceError, match=f"is not a trace: it holds {found}$"):
        read_trace(path)


def test_a_trace_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"cannot read the trace .*: No such file or directory"):
        read_trace(tmp_path / "none.jsonl")
    with pytest.raises(TraceError, match="is a folder, but a trace is a file"):
        read_trace(tmp_path)


def test_the_default_name_tells_when_and_nothing_else(tmp_path: Path) -> None:
    names = {default_path(tmp_path).name for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}\.jsonl", name) for name in names)


def test_a_file_descriptor_is_not_left_behind(tmp_path: Path, run: list[Event]) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    written(tmp_path / "run.jsonl", run)
    assert set(Path("/proc/self/fd").iterdir()) <= before


def test_a_trace_that_goes_on_is_one_trace_wherever_it_was_cut(tmp_path: Path, run: list[Event]) -> None:
    data = written(tmp_path / "run.jsonl", run).read_bytes()
    lines = data.split(b"\n")
    first_three = len(b"\n".join(lines[:3]))
    cut = tmp_path / "cut.jsonl"
    for length in (first_three, first_three + 1, first_three + 30):  # no newline, whole, half a line
        cut.write_bytes(data[:length])
        before = read_trace(cut)
        with TraceWriter(cut, behind=Written(len(before.events), before.whole_bytes, before.times_s[-1])) as writer:
            for event in run[3:]:
                writer.write(event)
        after = read_trace(cut)
        assert (list(after.events), after.truncated) == (run, False)
        assert list(after.times_s) == sorted(after.times_s)


def test_a_run_that_still_goes_on_cannot_be_resumed_beside_itself(tmp_path: Path, run: list[Event]) -> None:
    with TraceWriter(tmp_path / "run.jsonl") as writer:
        writer.write(run[0])
        trace = read_trace(writer.path)
        with pytest.raises(TraceError, match="its run still goes on in another process"):
            TraceWriter(writer.path, behind=Written(1, trace.whole_bytes, 0.0))
        writer.write(run[1])
    assert list(read_trace(writer.path).events) == run[:2]


@pytest.mark.parametrize(
    "content", [b"\x7fELF\x02\x01", b"The notice period\nis ninety days.\n", b'{"a": 1}\n{"b": 2}\n']
)
def test_a_file_that_is_no_trace_is_told_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(
        TraceError, match=rf"^{re.escape(str(path))} is not a trace of rlm-local: its first line is no event$"
    ):
        read_trace(path)
