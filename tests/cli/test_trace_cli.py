import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlm_local.cli.resume import resume
from rlm_local.cli.trace import trace
from rlm_local.errors import ConfigError, DocumentError, TraceError
from rlm_local.events import Event, RunEnded, TurnStarted, TurnWritten
from rlm_local.trace import TraceWriter, decode_event, run_lines
from rlm_local.types import Answer, StopReason
from tests.cli.begun import begun

RUN: list[Event] = [
    TurnStarted("0", 1, "first"),
    TurnWritten("0", 1, "\x1b[31mGebühr"),
    RunEnded(Answer("30 days", StopReason.FINAL, confirmed=True, turns=1)),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with TraceWriter(tmp_path / "run.jsonl") as writer:
        for event in RUN:
            writer.write(event)
    return writer.path


def test_show_draws_the_run_again_on_stdout(file: Path) -> None:
    shown = CliRunner().invoke(trace, ["show", str(file)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == run_lines(RUN)
    assert r"  \x1b[31mGebühr" in shown.stdout
    assert shown.stderr == ""


def test_show_json_prints_one_object_with_every_event(file: Path) -> None:
    shown = CliRunner().invoke(trace, ["show", str(file), "--json"], catch_exceptions=False)
    obj = json.loads(shown.stdout)
    assert obj["truncated"] is False
    assert obj["started_at"].endswith("+00:00")
    assert [event.pop("t") >= 0 for event in obj["events"]] == [True] * 3
    assert [decode_event(event) for event in obj["events"]] == RUN


def test_show_draws_what_a_killed_run_left_and_says_what_is_missing(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])
    shown = CliRunner().invoke(trace, ["show", str(file)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == run_lines(RUN[:-1])
    assert shown.stderr == f"warning: the last line of {file} was cut off; what it told is lost\n"


def test_a_run_that_is_not_there_or_is_over_is_not_resumed(file: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        CliRunner().invoke(resume, [str(file.with_name("none.jsonl"))], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"came to its end \(final\)"):
        CliRunner().invoke(resume, [str(file)], catch_exceptions=False)


def test_a_trace_without_a_beginning_cannot_be_replayed(file: Path) -> None:
    with pytest.raises(TraceError, match="does not begin with the start of a run"):
        CliRunner().invoke(trace, ["replay", str(file)], catch_exceptions=False)


def test_a_trace_without_an_end_is_exported_as_far_as_it_goes_and_that_is_said(toy_home: Path, tmp_path: Path) -> None:
    trace_file = begun(tmp_path, is_direct=False)
    shown = CliRunner().invoke(trace, ["export", str(trace_file), "--format", "sft"], catch_exceptions=False)
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == f"warning: {trace_file} has no end; of its run only whole turns are told\n"


def test_a_text_that_is_no_document_of_the_run_is_named(toy_home: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("Another text.\n")
    with pytest.raises(DocumentError, match=r"wrong\.txt has the text of no document of the run: it read lease\.txt$"):
        CliRunner().invoke(trace, ["replay", str(begun(tmp_path)), str(wrong)], catch_exceptions=False)


def test_a_text_that_came_from_a_program_must_be_named(toy_home: Path, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="does not tell where lease was read, and keeps no text of it") as caught:
        CliRunner().invoke(trace, ["replay", str(begun(tmp_path, path=""))], catch_exceptions=False)
    assert caught.value.hint == "name a file with the same text behind the trace, or ask again"


def test_show_of_a_file_that_is_no_trace_raises_what_main_turns_into_one_line(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="is a folder, but a trace is a file"):
        CliRunner().invoke(trace, ["show", str(tmp_path)], catch_exceptions=False)


def test_rewards_are_a_file_of_numbers_and_go_with_steps(file: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    scores.write_text('{"run.jsonl": "good"}')
    for arguments, said in (
        (["--format", "sft", "--rewards", str(scores)], "--rewards goes with --format rl"),
        (["--format", "rl", "--rewards", str(scores)], "must be a JSON object from a trace's file name to a number"),
    ):
        with pytest.raises(ConfigError, match=said):
            CliRunner().invoke(trace, ["export", str(file), *arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ('{"a": NaN}', "the reward of a is nan, but must be within ±1.8e+308"),
        ('{"a": 1, "b": -Infinity}', "the reward of b is -inf, but must be"),
        ('{"a": %s}' % ("9" * 400), "the reward of a is 999"),
        ("[" * 50_000, "cannot be read as JSON: maximum recursion"),
        ('{"a": %s}' % ("9" * 5_000), "cannot be read as JSON: Exceeds the limit"),
    ],
)
def test_rewards_that_no_json_number_can_be_are_refused(file: Path, tmp_path: Path, scores: str, said: str) -> None:
    (tmp_path / "scores.json").write_text(scores)
    arguments = ["export", str(file), "--format", "rl", "--rewards", str(tmp_path / "scores.json")]
    with pytest.raises(ConfigError) as refused:
        CliRunner().invoke(trace, arguments, catch_exceptions=False)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("kind", ["rl", "sft"])
def test_two_traces_of_one_name_are_not_exported_together(file: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other" / file.name
    other.parent.mkdir()
    other.write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=f"{file} and {other} have one name, run.jsonl") as refused:
        CliRunner().invoke(trace, ["export", str(file), str(other), "--format", kind], catch_exceptions=False)
    assert refused.value.hint == "rename one of them, or give them in two commands"


def test_what_is_no_whole_run_is_not_exported(file: Path) -> None:
    with pytest.raises(TraceError, match="does not begin with the start of a run"):
        CliRunner().invoke(trace, ["export", str(file), "--format", "sft"], catch_exceptions=False)
