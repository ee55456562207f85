from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench.provenance import Provenance
from bench.report import PeakBytes, Result, markdown, row_line, summary_lines
from bench.rows import Outcome, Row, read_row, row_object, run_task, run_tasks
from bench.tasks.scoring import count, string_match_all
from bench.tasks.task import Task
from rlm_local.errors import ConfigError, EngineUnavailable
from rlm_local.types import Answer, Citation, Document, GrammarMode, StopReason, Usage

TEXT = "It rained. The number is 1234567. It stopped."
TASK = Task("niah", 0, "needle", (Document("a.txt", TEXT),), "What is the number?", "1234567", string_match_all)


class ScriptedArm:
    """Answers with what a test wrote down, in order; an exception is raised in its place."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self._answers = list(answers)

    async def answer(self, task: Task) -> Answer:
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


@pytest.mark.parametrize(
    ("stop", "confirmed", "fails"),
    [
        (StopReason.FINAL, True, False),
        (StopReason.FINAL, False, True),
        (StopReason.NO_PROGRESS, False, True),
        (StopReason.TURN_LIMIT, False, False),  # its budget was spent
    ],
)
async def test_a_run_fails_when_it_ends_unconfirmed_with_budget_left(
    stop: StopReason, confirmed: bool, fails: bool
) -> None:
    row = await run_task(TASK, ScriptedArm(Answer("1234567", stop, confirmed)))
    assert row.is_failure is fails
    assert (await run_task(TASK, ScriptedArm(EngineUnavailable("gone")))).is_failure


async def test_a_quote_counts_as_verified_only_where_it_stands() -> None:
    quote = "The number is 1234567."
    at = TEXT.index(quote)
    good = Citation("a.txt", at, at + len(quote), 1, quote)
    bad = [
        replace(good, document="b.txt"),
        replace(good, start=at + 1),
        replace(good, line=2),
        replace(good, quote="x"),
    ]
    row = await run_task(TASK, ScriptedArm(replace(answer("1234567"), citations=(good, *bad))))
    assert (row.citations, row.verified) == (5, 1)


async def test_a_result_tells_failures_quotes_and_what_went_over_its_budget() -> None:
    row = await run_task(TASK, ScriptedArm(answer("1234567")))
    over = replace(row, number=2, turns=14, confirmed=False)
    of = replace(result(row, over, tasks=2), profile="small")
    assert any("left) 1, over budget by more than one call 1" in line for line in summary_lines(of))


async def test_a_mistake_in_the_settings_ends_the_run() -> None:
    with pytest.raises(ConfigError, match="no such thing"):
        await run_task(TASK, ScriptedArm(ConfigError("no such thing")))


async def test_points_between_are_told_apart() -> None:
    counted = replace(TASK, gold=5, scorer=count, floors={"always 4": 4, "nothing": None})
    row = await run_task(counted, ScriptedArm(answer(6)))
    assert (row.outcome, row.score) == (Outcome.PARTLY, 0.75)
    assert row.floors == {"always 4": 0.75, "nothing": 0.0}


async def test_a_row_comes_back_from_its_file() -> None:
    row = await run_task(TASK, ScriptedArm(answer("1234567")))
    assert read_row(json.dumps(row_object(row))) == row


def test_a_file_that_is_no_row_is_a_mistake_that_is_told() -> None:
    with pytest.raises(ConfigError, match="a kept row cannot be read: KeyError"):
        read_row("{}")


async def test_a_result_sums_its_rows_and_is_plain_json() -> None:
    arm = ScriptedArm(answer("1234567"), answer("7654321"))
    rows = [await run_task(replace(TASK, index=index), arm) for index in range(2)]
    made = result(*rows, tasks=2, peak=PeakBytes(3 << 20, 4 << 20))
    total = json.loads(json.dumps(made.as_object()))["summary"]
    assert (total["right"], total["wrong"], total["score"]) == (1, 1, 0.5)
    assert (total["prompt_tokens"], total["cached_tokens"], total["completion_tokens"]) == (200, 120, 10)
    assert total["document_bytes"] == len(TEXT)
    assert "score 0.500, 1 of 2 right" in summary_lines(made)[0]
    assert "3.0 MiB sampled, at most 4.0 MiB" in markdown(made)


async def test_an_interrupted_run_says_how_much_was_asked_for() -> None:
    row = await run_task(TASK, ScriptedArm(answer("1234567")))
    assert summary_lines(result(row, tasks=20))[0].endswith("1 of 1 right (interrupted: 20 were asked for)")
    assert summary_lines(result(tasks=20))[0].endswith("0 of 0 right (interrupted: 20 were asked for)")


async def test_a_wrong_row_shows_what_was_wanted_and_what_came() -> None:
    row = await run_task(TASK, ScriptedArm(answer("7654321")))
    assert row_line(row, 20).startswith("task 1/20  wrong")
    assert row_line(row, 20).endswith("needle: 0.00, wanted '1234567', got '7654321'")


async def test_a_bar_in_an_answer_does_not_break_the_table() -> None:
    row = await run_task(TASK, ScriptedArm(answer("a | b\nc")))
    assert markdown(result(row, tasks=1)).splitlines()[-1].endswith("| a \\| b c |")
