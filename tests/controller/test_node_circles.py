"""A run that repeats itself, or gets nowhere, is told so once and then ended."""

from __future__ import annotations

import pytest

from rlm_local.testing import AnsweringEngine, QueryingRepl, ScriptedEngine, ScriptedRepl
from rlm_local.types import (
    CellResult,
    CellStatus,
    StopReason,
)
from tests.controller.asking import LOOK, LOOK_AGAIN, SEEN, ask


async def test_a_reply_that_repeats_an_earlier_cell_is_drawn_anew_and_hotter() -> None:
    engine = ScriptedEngine([LOOK, LOOK, LOOK_AGAIN, 'FINAL("30 euros")'])
    repl = ScriptedRepl([SEEN, SEEN])
    answer = await ask(engine, repl)
    assert repl.codes == ['search("fee")', 'search("euros")']
    assert [completion.sampling.temperature for completion in engine.completions] == [0.0, 0.0, 0.7, 0.0]
    assert engine.completions[2].messages == engine.completions[1].messages
    assert (answer.turns, answer.confirmed) == (3, True)


async def test_a_model_that_only_repeats_itself_is_told_and_may_then_only_answer() -> None:
    engine = ScriptedEngine([LOOK, LOOK, LOOK, LOOK, 'FINAL("30 euros")'])
    answer = await ask(engine, ScriptedRepl([SEEN, SEEN]))
    last = engine.completions[-1]
    assert "You ran this code before" in last.messages[-1].content
    assert (last.grammar or "").startswith("start: final\n")
    assert (answer.value, answer.stop, answer.confirmed) == ("30 euros", StopReason.FINAL, True)


def looks(*codes: str) -> list[str]:
    return [f"```repl\n{code}\n```" for code in codes]


def failing(line: str) -> CellResult:
    return CellResult(CellStatus.RAISED, "", error=f"Traceback (most recent call last):\n{line}\n")


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ([failing("NameError: x")] * 6, "the same error came 3 times: NameError: x"),
        ([SEEN] * 6, "3 cells in a row printed nothing new"),
    ],
)
async def test_a_run_that_goes_round_in_a_circle_is_told_once_and_then_ends_unconfirmed(
    results: list[CellResult | str], why: str
) -> None:
    cells = looks(*(f"look({n})" for n in range(len(results))))
    engine = ScriptedEngine(["```repl\nfirst()\n```", *cells, 'FINAL("30 euros")'], window_tokens=32_000)
    answer = await ask(engine, ScriptedRepl([SEEN, *results]), max_turns=30)
    told = [one.messages[-1].content for one in engine.completions if why in one.messages[-1].content]
    assert len(told) == 1  # by name; the next time it may only answer
    assert (engine.completions[-1].grammar or "").startswith("start: final\n")
    assert (answer.value, answer.stop, answer.confirmed) == ("30 euros", StopReason.NO_PROGRESS, False)
    assert answer.reason == f"the run went round in a circle: {why}"


async def test_sub_calls_that_only_repeat_are_a_circle_too_and_cost_nothing() -> None:
    engine = AnsweringEngine(
        lambda asked: f"```repl\nlook({len(asked.messages)})\n```" if asked.grammar else "the same",
        window_tokens=32_000,
    )
    answer = await ask(engine, QueryingRepl(["a?", "b?"]), max_turns=30)
    assert answer.stop is StopReason.NO_PROGRESS
    assert "2 cells in a row asked sub-models only what was asked before" in answer.reason
    assert len([one for one in engine.completions if not one.grammar]) == 2
    assert answer.remembered == answer.subcalls - 2


async def test_progress_resets_what_the_breaker_counts() -> None:
    outputs = [SEEN, SEEN, SEEN, "something else\n"] * 3
    engine = ScriptedEngine([*looks(*(f"look({n})" for n in range(12))), 'FINAL("30 euros")'], window_tokens=32_000)
    answer = await ask(
        engine, ScriptedRepl([f"{n}: {text}" if n % 2 else text for n, text in enumerate(outputs)]), max_turns=30
    )
    assert (answer.value, answer.confirmed) == ("30 euros", True)


async def test_a_run_whose_every_cell_fails_alike_is_told_so_and_ends_before_its_turns_are_spent() -> None:
    cells = looks(*(f"look({n})" for n in range(20)))
    engine = ScriptedEngine(cells, window_tokens=32_000)
    answer = await ask(engine, ScriptedRepl([failing("NameError: x")] * 20), max_turns=20)
    assert (answer.value, answer.stop, answer.turns) == (None, StopReason.NO_PROGRESS, 6)
    assert "The code stopped at this error." in engine.completions[1].messages[-1].content
