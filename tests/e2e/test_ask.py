"""`rlm-local ask` from end to end: real weights, a real jail, and what a user gets of it.

The weights are the smallest there are, so the tests look at the shape of an answer, not at its wisdom.
"""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cli.main import main
from rlm_local.events import RunEnded, RunStarted, TurnTaken
from rlm_local.trace import read_trace

pytestmark = [pytest.mark.engine, pytest.mark.jail, pytest.mark.slow]

BRIEF = ("--max-turns", "2", "--max-seconds", "90")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@pytest.fixture(scope="module")
def answered(install: Callable[[], Any]) -> Iterator[tuple[Any, Any]]:
    """A run with --json that has come to its end, and the installation it ran in."""
    installation = install()
    with installation.ask("--json", *BRIEF) as asking:
        asking.wait()
        yield installation, asking


def test_json_is_one_object_with_the_documented_keys(answered: tuple[Any, Any]) -> None:
    answer = answered[1].answer
    judged = ["answer", "stop", "confirmed", "reason"]
    assert list(answer) == [*judged, "route", "coverage", "citations", "unfound", "usage", "cost", "trace"]
    assert list(answer["usage"]) == [
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "subcalls",
        "remembered",
        "turns",
        "wall_s",
    ]
    assert all(list(one) == ["document", "start", "end", "line", "quote"] for one in answer["citations"])


def test_the_exit_code_tells_whether_the_answer_is_confirmed(answered: tuple[Any, Any]) -> None:
    _, asking = answered
    assert asking.wait() == (0 if asking.answer["confirmed"] else 3)
    assert asking.answer["confirmed"] is (asking.answer["reason"] == "")


def test_every_citation_is_a_slice_of_its_document(answered: tuple[Any, Any]) -> None:
    installation, asking = answered
    for citation in asking.answer["citations"]:
        text = (installation.folder / citation["document"]).read_text()
        assert citation["quote"] == text[citation["start"] : citation["end"]] != ""
        assert citation["line"] == text.count("\n", 0, citation["start"]) + 1


def test_the_second_request_computes_only_what_is_new(answered: tuple[Any, Any]) -> None:
    turns = [event for event in run_of(answered).events if isinstance(event, TurnTaken)]
    first, second = (event.turn.usage for event in turns[:2])
    assert second.cached_tokens >= first.prompt_tokens - 1  # all of the first request, but for its last token


def test_the_trace_is_the_owners_alone_and_holds_the_run(answered: tuple[Any, Any]) -> None:
    installation, asking = answered
    trace = run_of(answered)
    assert installation.traces == [trace.path]
    assert stat.S_IMODE(trace.path.stat().st_mode) == 0o600
    assert isinstance(trace.events[0], RunStarted)
    assert trace.answer is not None
    assert trace.answer.value == asking.answer["answer"]
    assert len(trace.answer.citations) == len(asking.answer["citations"])


def test_the_trace_redraws_what_was_shown(answered: tuple[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    _, asking = answered
    assert main(["trace", "show", asking.answer["trace"]]) == 0
    redrawn = capsys.readouterr().out.splitlines()
    shown = asking.err
    assert shown[-1] == f"trace: {asking.answer['trace']}"
    assert [line for line in redrawn if not line.startswith("answer: ")] == shown[:-1]


def test_nothing_is_left_of_a_run_but_its_trace(answered: tuple[Any, Any]) -> None:
    installation, asking = answered
    assert asking.left() == []
    assert installation.litter() == []


def test_quiet_prints_the_answer_alone_and_reads_standard_input(installation: Any) -> None:
    text = (installation.folder / "harbour.txt").read_bytes()
    with installation.ask("-q", *BRIEF, document="-", stdin=text) as asking:
        code = asking.wait()
        (trace,) = installation.traces
        run = read_trace(trace)
        assert isinstance(run.events[0], RunStarted)
        assert [(one.name, one.chars) for one in run.events[0].documents] == [("stdin", len(text))]
        assert run.answer is not None
        assert code == (0 if run.answer.confirmed else 3)
        assert asking.err == []
        assert asking.out == ("" if run.answer.value is None else f"{run.answer.text}\n")


def test_without_a_network_the_answer_is_the_same(answered: tuple[Any, Any], installation: Any) -> None:
    allowed = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"no network namespace may be made here: {allowed.stderr.decode().strip()}")
    with installation.ask("--json", *BRIEF, under=("unshare", "-rn")) as asking:
        asking.wait()
        here, there = answered[1].answer, asking.answer
        if "time_limit" in (here["stop"], there["stop"]):
            pytest.skip("this machine is too slow for two turns in the time that the test gives them")
        addresses = [ADDRESS.search("\n".join(one.err)) for one in (answered[1], asking)]
        for answer in (here, there):
            del answer["trace"], answer["usage"]["wall_s"]
            if any(addresses):  # of a "<generator object ...>", say: other digits each time, and maybe a token more
                del answer["usage"]["prompt_tokens"]
        assert there == here


def test_a_limit_ends_the_run_with_its_reason_and_exit_code_3(installation: Any) -> None:
    with installation.ask("--json", "--max-seconds", "3") as asking:
        assert asking.wait() == 3
        answer = asking.answer
        assert (answer["stop"], answer["confirmed"]) == ("time_limit", False)
        assert "3 seconds" in answer["reason"]
        assert "--max-seconds" in answer["reason"]
        assert answer["usage"]["wall_s"] < 10  # while the model writes, not when it has written
        assert asking.left() == []
        assert installation.litter() == []
        last = read_trace(Path(answer["trace"])).events[-1]
        assert isinstance(last, RunEnded)


def test_a_question_that_leaves_no_room_for_a_turn_is_a_users_mistake(installation: Any) -> None:
    with installation.ask("-q", "--window", "4096", question="Where is the harbour? " * 1_000) as asking:
        assert asking.wait() == 2
        assert asking.out == ""
        error, _, hint = asking.err
        assert error.startswith("error: the question is too long: ")
        assert error.endswith("but the window holds 4,096")
        assert hint.startswith("hint: shorten it")
        assert asking.left() == []


def run_of(answered: tuple[Any, Any]) -> Any:
    return read_trace(Path(answered[1].answer["trace"]))
