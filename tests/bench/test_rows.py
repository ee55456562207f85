from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench.arms import BaseArm
from bench.niah import ANSWER_TOKENS, Needle, NiahTask
from bench.provenance import Provenance
from bench.report import PeakBytes, Result, markdown, row_line, summary_lines
from bench.rows import Outcome, Row, run_task, run_tasks
from rlm_local.errors import ConfigError, EngineUnavailable
from rlm_local.testing import ScriptedEngine
from rlm_local.types import Answer, GrammarMode, StopReason, Usage

NEEDLE = Needle("calm-fox", "1234567", 50)
TASK = NiahTask(0, NEEDLE, f"It rained. {NEEDLE.sentence} It stopped.", tokens=300)


class ScriptedArm:
    """Answers with what a test wrote down, in order; an exception is raised in its place."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self._answers = list(answers)

    async def answer(self, task: NiahTask) -> Answer:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def answer(value: str | int | None) -> Answer:
    return Answer(value, StopReason.FINAL, confirmed=True, usage=Usage(100, 60, 5), subcalls=1, turns=2, wall_s=0.1)


def result(*rows: Row, tasks: int, peak: PeakBytes | None = None) -> Result:
    made = Provenance("python -m bench run niah", "2026-01-01T00:00:00+00:00", "0", "abc", "3.11", "a machine", {})
    return Result(
        "niah",
        "rlm",
        GrammarMode.OFF,
        "scripted",
        300,
        tasks,
        1,
        8_192,
        "2" * 64,
        {"small": "1" * 64},
        peak,
        rows,
        made,
    )


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("1234567", Outcome.RIGHT),
        (1234567, Outcome.RIGHT),
        ("none", Outcome.WRONG),
        (None, Outcome.WRONG),
    ],
)
async def test_an_answer_is_scored_as_text(value: str | int | None, outcome: Outcome) -> None:
    row = await run_task(TASK, ScriptedArm(answer(value)))
    assert row.outcome is outcome
    assert row.score == (1.0 if outcome is Outcome.RIGHT else 0.0)
    assert (row.turns, row.subcalls, row.usage.cached_tokens) == (2, 1, 60)


async def test_an_error_of_ours_is_a_failed_row_and_the_next_task_still_runs() -> None:
    rows: list[Row] = []
    arm = ScriptedArm(EngineUnavailable("the engine is gone"), answer("1234567"))
    await run_tasks([TASK, replace(TASK, index=1)], arm, rows.append)
    assert [row.outcome for row in rows] == [Outcome.FAILED, Outcome.RIGHT]
    assert rows[0].detail == "EngineUnavailable: the engine is gone"


async def test_a_mistake_in_the_settings_ends_the_run() -> None:
    with pytest.raises(ConfigError, match="no such thing"):
        await run_task(TASK, ScriptedArm(ConfigError("no such thing")))


async def test_the_base_arm_asks_once_with_the_whole_text_and_the_question() -> None:
    engine = ScriptedEngine([" 1234567."])
    row = await run_task(TASK, BaseArm(engine))
    (completion,) = engine.completions
    assert completion.messages[0].content == TASK.direct_prompt
    assert completion.max_tokens == ANSWER_TOKENS
    assert (row.outcome, row.turns, row.confirmed) == (Outcome.RIGHT, 1, False)


async def test_the_base_arm_refuses_a_task_above_the_window_with_both_numbers() -> None:
    engine = ScriptedEngine(["never said"], window_tokens=256)
    row = await run_task(TASK, BaseArm(engine))
    assert (row.outcome, row.score) == (Outcome.REFUSED, 0.0)
    assert row.detail == "the task has 300 tokens with its answer, the window 256"
    assert engine.completions == []


def test_a_direct_prompt_is_rulers() -> None:
    assert TASK.direct_prompt == (
        "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you "
        "about the number afterwards.\n"
        "It rained. One of the special magic numbers for calm-fox is: 1234567. It stopped.\n"
        "What is the special magic number for calm-fox mentioned in the provided text? "
        "The special magic number for calm-fox mentioned in the provided text is"
    )


async def test_a_result_sums_its_rows_and_is_plain_json() -> None:
    arm = ScriptedArm(answer("1234567"), answer("7654321"))
    rows = [await run_task(replace(TASK, index=index), arm) for index in range(2)]
    made = result(*rows, tasks=2, peak=PeakBytes(3 << 20, 4 << 20))
    total = json.loads(json.dumps(made.as_object()))["summary"]
    assert (total["right"], total["wrong"], total["score"]) == (1, 1, 0.5)
    assert (total["prompt_tokens"], total["cached_tokens"], total["completion_tokens"]) == (200, 120, 10)
    assert total["document_bytes"] == len(TASK.text)
    assert "1 of 2 right" in summary_lines(made)[0]
    assert "3.0 MiB sampled, at most 4.0 MiB" in markdown(made)


async def test_an_interrupted_run_says_how_much_was_asked_for() -> None:
    row = await run_task(TASK, ScriptedArm(answer("1234567")))
    assert summary_lines(result(row, tasks=20))[0].endswith("1 of 1 right (interrupted: 20 were asked for)")
    assert summary_lines(result(tasks=20))[0].endswith("0 of 0 right (interrupted: 20 were asked for)")


async def test_a_wrong_row_shows_what_was_wanted_and_what_came() -> None:
    row = await run_task(TASK, ScriptedArm(answer("7654321")))
    assert row_line(row, 20).startswith("task 1/20  wrong")
    assert row_line(row, 20).endswith("calm-fox: wanted 1234567, got '7654321'")


async def test_a_bar_in_an_answer_does_not_break_the_table() -> None:
    row = await run_task(TASK, ScriptedArm(answer("a | b\nc")))
    assert markdown(result(row, tasks=1)).splitlines()[-1].endswith("| a \\| b c |")
