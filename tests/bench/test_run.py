"""A run that breaks off tells of what was done before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bench.niah import Needle, NiahTask
from bench.provenance import Provenance
from bench.report import Result
from bench.rows import run_tasks
from bench.run import Bench, Settings, run_to_end
from rlm_local.config import Home
from rlm_local.limits import Limits
from rlm_local.types import Answer, GrammarMode, StopReason, Usage

NEEDLE = Needle("calm-fox", "1234567", 50)
TASK = NiahTask(0, NEEDLE, NEEDLE.sentence, tokens=300)
SETTINGS = Settings(
    "niah", "m", "rlm", 300, 3, 1, Path("data"), None, None, None, Limits(), GrammarMode.PYTHON, "python"
)
MADE = Provenance("python -m bench run niah", "2026-01-01T00:00:00+00:00", "0", "abc", "3.11", "a machine", {})
RIGHT = Answer("1234567", StopReason.FINAL, confirmed=True, usage=Usage(), subcalls=0, turns=1, wall_s=0.1)


class ScriptedBench(Bench):
    """Runs three tasks, of which the last `breaking` end the run with `error`."""

    def __init__(self, error: BaseException, *, breaking: int) -> None:
        super().__init__(SETTINGS, Home(Path("d"), Path("s"), Path("r")), lambda _: None)
        self._right = 3 - breaking
        self._error = error

    async def go(self) -> None:
        self.result = Result("niah", "rlm", GrammarMode.PYTHON, "m", 300, 3, 1, 8_192, "2" * 64, {}, None, (), MADE)
        await run_tasks([replace(TASK, index=index) for index in range(3)], self, self._keep)

    async def answer(self, task: NiahTask) -> Answer:
        if task.index < self._right:
            return RIGHT
        raise self._error


@pytest.mark.parametrize("error", [RuntimeError("closed"), OSError("no room for a trace")])
def test_the_finished_tasks_outlive_an_error_and_the_error_is_kept(error: Exception) -> None:
    ended = run_to_end(ScriptedBench(error, breaking=1))
    assert [row.number for row in ended.result.rows] == [1, 2]
    assert (ended.error, ended.interrupted) == (error, False)


def test_an_error_before_the_first_task_ended_is_raised() -> None:
    with pytest.raises(RuntimeError, match="closed"):
        run_to_end(ScriptedBench(RuntimeError("closed"), breaking=3))


def test_an_interrupted_run_keeps_what_was_done() -> None:
    ended = run_to_end(ScriptedBench(asyncio.CancelledError(), breaking=2))
    assert [row.number for row in ended.result.rows] == [1]
    assert (ended.error, ended.interrupted) == (None, True)
