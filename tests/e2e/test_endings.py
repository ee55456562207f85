"""However `ask` ends, nothing of it lives on: no process, no socket, no file but the trace."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from rlm_local.events import RunEnded
from rlm_local.trace import read_trace
from rlm_local.types import StopReason

pytestmark = [pytest.mark.engine, pytest.mark.jail, pytest.mark.slow]

BY_SIGNAL = [
    (signal.SIGINT, "interrupted"),
    (signal.SIGTERM, "terminated"),
    (signal.SIGHUP, "ended with its terminal"),
]


def test_ctrl_c_while_the_engine_starts_is_one_word_and_leaves_no_trace(installation: Any) -> None:
    with installation.ask() as asking:
        asking.engine()
        asking.signal(signal.SIGINT)
        assert asking.wait() == 130
        assert (asking.out, asking.err) == ("", ["interrupted"])
        assert asking.left() == []
    assert installation.litter() == []
    assert installation.traces == []


@pytest.mark.parametrize(("number", "word"), BY_SIGNAL)
def test_a_signal_during_a_turn_is_one_line_and_the_trace_is_kept(
    installation: Any, number: signal.Signals, word: str
) -> None:
    with installation.ask() as asking:
        asking.wait_for("\nturn 1")
        assert len(asking.started()) >= 4  # ask, the engine, nsjail and the worker
        asking.signal(number)
        assert asking.wait() == 128 + number
        assert asking.out == ""
        (trace,) = installation.traces
        assert asking.err[-2:] == ["turn 1 · first", f"{word}; trace: {trace}"]
        assert asking.left() == []
    assert installation.litter() == []
    last = read_trace(trace).events[-1]
    assert isinstance(last, RunEnded)
    assert last.answer.stop is StopReason.CANCELLED


@pytest.mark.parametrize("moment", ["starting the engine", "the model writes"])
def test_ctrl_c_on_a_terminal_leaves_one_line_and_gives_the_cursor_back(installation: Any, moment: str) -> None:
    with installation.ask(on_terminal=True) as asking:
        asking.wait_for(moment)
        asking.signal(signal.SIGINT)
        assert asking.wait() == 130
        kept = "".join(f"; trace: {trace}" for trace in installation.traces)
        assert asking.shown.endswith(f"\rinterrupted{kept}\r\n")
        assert asking.shown.count("\x1b[?25l") == asking.shown.count("\x1b[?25h")  # hidden as often as shown again
        assert asking.left() == []
    assert installation.litter() == []


def test_an_impatient_second_ctrl_c_leaves_nothing_either(installation: Any) -> None:
    with installation.ask() as asking:
        asking.wait_for("\nturn 1")
        asking.signal(signal.SIGINT)
        asking.signal(signal.SIGINT)
        assert asking.wait() == 130
        assert not any("Traceback" in line for line in asking.err)
        assert asking.left() == []
    assert installation.litter() == []


def test_kill_9_of_ask_takes_everything_with_it(installation: Any) -> None:
    with installation.ask() as asking:
        asking.wait_for("\nturn 1")
        asking.nsjail(), asking.worker(), asking.engine()
        os.kill(asking.pid, signal.SIGKILL)
        assert asking.wait() == -signal.SIGKILL
        assert asking.left() == []
    assert installation.litter() == []
    (trace,) = installation.traces
    assert read_trace(trace).answer is None


def test_kill_9_of_ask_while_the_engine_starts_takes_the_engine_with_it(installation: Any) -> None:
    with installation.ask() as asking:
        asking.engine()
        os.kill(asking.pid, signal.SIGKILL)
        assert asking.wait() == -signal.SIGKILL
        assert asking.left() == []
    assert installation.litter() == []
    assert installation.traces == []


def test_a_killed_engine_is_started_again_and_killed_twice_it_is_one_sentence(installation: Any) -> None:
    with installation.ask() as asking:
        asking.wait_for("\nturn 1")
        first = asking.engine()
        os.kill(first, signal.SIGKILL)
        while (second := asking.engine()) == first:  # until the dead one is buried
            pass
        os.kill(second, signal.SIGKILL)
        assert asking.wait() == 1
        (trace,) = installation.traces
        (error,) = [line for line in asking.err if line.startswith("error: ")]
        assert error.startswith("error: the engine for smollm2-135m ")
        assert "was killed by SIGKILL" in error
        assert f"trace: {trace}" in asking.err
        assert not any("Traceback" in line for line in asking.err)
        assert asking.out == ""
        assert asking.left() == []
    assert installation.litter() == []
    assert len(read_trace(trace).events) >= 2


def test_a_run_goes_on_when_engine_and_worker_were_killed_once(installation: Any) -> None:
    # The next engine reads the whole prompt anew, which takes minutes where others need the processors too.
    with installation.ask("--max-turns", "3", "--max-seconds", "400") as asking:
        asking.wait_for("\nturn 1")
        os.kill(asking.engine(), signal.SIGKILL)
        asking.wait_for("\nturn 2", within_s=300)
        os.kill(asking.worker(), signal.SIGKILL)
        assert asking.wait(within_s=300) in (0, 3)
        assert not any(line.startswith("error: ") for line in asking.err)
        assert asking.left() == []
    assert installation.litter() == []
    (trace,) = installation.traces
    answer = read_trace(trace).answer
    assert answer is not None
    assert answer.turns >= 2


def test_kill_9_of_nsjail_takes_the_worker_with_it_and_the_run_goes_on(installation: Any) -> None:
    with installation.ask("--max-turns", "2", "--max-seconds", "90") as asking:
        asking.wait_for("\nturn 1")
        nsjail, worker = asking.nsjail(), asking.worker()
        os.kill(nsjail, signal.SIGKILL)
        assert asking.wait() in (0, 3)
        assert worker not in [process.pid for process in asking.started() if process.state != "Z"]
        assert asking.left() == []
    assert installation.litter() == []
    (trace,) = installation.traces
    assert read_trace(trace).answer is not None
