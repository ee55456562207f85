"""A run that breaks off tells of what was done before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bench.provenance import Provenance
from bench.report import Result, markdown
from bench.rows import run_tasks
from bench.run import ROWS, Bench, Ended, Settings, run_to_end
from bench.tasks.scoring import string_match_all
from bench.tasks.task import Task
from rlm_local.config import Home
from rlm_local.errors import ConfigError
from rlm_local.limits import Limits
from rlm_local.types import Answer, Document, GrammarMode, StopReason, Usage

TASK = Task("niah", 0, "needle", (Document("a.txt", "1234567"),), "What is the number?", "1234567", string_match_all)
SETTINGS = Settings(
    "niah", "m", "rlm", 300, 3, 1, Path("data"), None, None, None, Limits(), GrammarMode.PYTHON, "python"
)
MADE = Provenance("python -m bench run niah", "2026-01-01T00:00:00+00:00", "0", "abc", "3.11", "a machine", {})
RIGHT = Answer("1234567", StopReason.FINAL, confirmed=True, usage=Usage(), subcalls=0, turns=1, wall_s=0.1)


class ScriptedBench(Bench):
    """Runs three tasks, of which the last `breaking` end the run with `error`."""

    def __init__(self, error: BaseException, *, breaking: int, settings: Settings = SETTINGS) -> None:
        super().__init__(settings, Home(Path("d"), Path("s"), Path("r")), lambda _: None)
        self._right = 3 - breaking
        self._error = error

    async def go(self) -> None:
        blank = Result("niah", "rlm", GrammarMode.PYTHON, "m", 300, 3, 1, 8_192, "2" * 64, {}, None, (), MADE)
        self.result = replace(blank, earlier=self._kept.go_on(MADE))
        done = {row.number for row in self.rows}
        await run_tasks([replace(TASK, index=at) for at in range(3) if at + 1 not in done], self, self._keep)

    async def answer(self, task: Task) -> Answer:
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


def in_folder(folder: Path, *, breaking: int, **settings: object) -> Ended:
    error = asyncio.CancelledError()
    return run_to_end(ScriptedBench(error, breaking=breaking, settings=replace(SETTINGS, out=folder, **settings)))


def test_a_run_that_was_cut_off_goes_on_behind_its_last_task(tmp_path: Path) -> None:
    first = in_folder(tmp_path / "run", breaking=2)
    kept = (tmp_path / "run" / ROWS / "00001.json").stat().st_mtime_ns
    whole = in_folder(tmp_path / "run", breaking=0)
    assert [row.number for row in first.result.rows] == [1]
    assert [row.number for row in whole.result.rows] == [1, 2, 3]
    assert whole.result.rows[0] == first.result.rows[0]
    assert [one["commit"] for one in whole.result.earlier] == [MADE.commit]
    assert "| went on from 2026-01-01T00:00:00+00:00 | commit abc, `python -m bench run niah` |" in markdown(
        whole.result
    )
    assert (tmp_path / "run" / ROWS / "00001.json").stat().st_mtime_ns == kept


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    in_folder(tmp_path / "run", breaking=0)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        in_folder(tmp_path / "run", breaking=0, seed=2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not empty"):
        in_folder(tmp_path / "other", breaking=0)


def test_more_tasks_may_be_asked_for_later(tmp_path: Path) -> None:
    in_folder(tmp_path / "run", breaking=1)
    assert len(in_folder(tmp_path / "run", breaking=0, tasks=5).result.rows) == 3
