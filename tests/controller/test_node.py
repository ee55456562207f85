"""One run: complete, decode, execute, observe, until a final."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from rlm_local.errors import EngineRefused, EngineUnavailable, WorkerLost
from rlm_local.events import RunEnded, TurnStarted, TurnTaken
from rlm_local.testing import KeptEvents, QueryingRepl, ScriptedEngine, ScriptedRepl
from rlm_local.types import (
    CellResult,
    CellStatus,
    Citation,
    Final,
    GrammarMode,
    JsonValue,
    Malformed,
    Reply,
    ReplyStop,
    Role,
    Span,
    StopReason,
    Usage,
)
from tests.controller.asking import LOOK, LOOK_AGAIN, SEEN, ask


async def test_a_final_that_was_printed_ends_the_run_confirmed() -> None:
    engine = ScriptedEngine([LOOK, 'FINAL("30 euros")'])
    answer = await ask(engine, ScriptedRepl([SEEN]))
    assert (answer.value, answer.stop, answer.confirmed, answer.turns) == ("30 euros", StopReason.FINAL, True, 2)
    assert answer.usage.completion_tokens == 20  # 10 a reply


async def test_what_an_answer_names_as_its_source_is_cited_and_what_no_document_holds_is_told() -> None:
    named: list[Sequence[Span]] = []

    def cite(
        value: JsonValue, spans: Sequence[Span], readings: Sequence[str], *, sources: Sequence[Span] = ()
    ) -> tuple[Citation, ...]:
        named.append(sources)
        return ()

    final = Final("30 euros", sources=(Span(0, 28, 48),), unfound=("The fee is thirty.",))
    repl = ScriptedRepl([SEEN, CellResult(CellStatus.OK, "", final=final), CellResult(CellStatus.OK, "", final=final)])
    cell = "```repl\nFINAL(fee, sources=[found, 'The fee is thirty.'])\n```"
    answer = await ask(ScriptedEngine([LOOK, cell, cell.replace("fee,", "str(fee),")]), repl, cite=cite)
    assert named == [final.sources]
    assert (answer.value, answer.confirmed, answer.unfound) == ("30 euros", False, final.unfound)
    assert "'The fee is thirty.'" in answer.reason


async def test_every_request_extends_the_one_before_byte_for_byte() -> None:
    engine = ScriptedEngine([LOOK, LOOK_AGAIN, "no code here", 'FINAL("30 euros")'])
    await ask(engine, ScriptedRepl([SEEN, SEEN]))
    for earlier, later in zip(engine.completions, engine.completions[1:], strict=False):
        assert later.messages[: len(earlier.messages)] == earlier.messages
        assert later.messages[len(earlier.messages)].role is Role.ASSISTANT


async def test_no_final_form_is_allowed_before_the_first_cell_ran() -> None:
    engine = ScriptedEngine([LOOK, 'FINAL("30 euros")'])
    await ask(engine, ScriptedRepl([SEEN]))
    first, second = (completion.grammar or "" for completion in engine.completions)
    assert "final" not in first.splitlines()[0]
    assert "final" in second.splitlines()[0]


async def test_the_last_turn_may_only_answer_and_its_answer_is_unconfirmed() -> None:
    engine = ScriptedEngine([LOOK, 'FINAL("30 euros")'])
    answer = await ask(engine, ScriptedRepl([SEEN]), max_turns=2)
    last = engine.completions[-1]
    assert (last.grammar or "").startswith("start: final\n")
    assert "last turn" in last.messages[-1].content
    assert (answer.value, answer.stop, answer.confirmed) == ("30 euros", StopReason.TURN_LIMIT, False)
    assert "--max-turns" in answer.reason


async def test_an_answer_given_in_the_first_cell_is_held_until_its_output_was_seen() -> None:
    early = CellResult(CellStatus.OK, "", final=Final("30 euros"))
    engine = ScriptedEngine(['```repl\nFINAL("30 euros")\n```', LOOK, 'FINAL("30 euros")'])
    answer = await ask(engine, ScriptedRepl([early, SEEN]))
    assert "before you saw any output" in engine.completions[1].messages[-1].content
    assert (answer.value, answer.turns) == ("30 euros", 3)


async def test_an_answer_that_nothing_printed_supports_is_questioned_once_and_then_unconfirmed() -> None:
    engine = ScriptedEngine([LOOK, "FINAL(1234567)", "FINAL(1234567)"])
    answer = await ask(engine, ScriptedRepl([SEEN]))
    assert "Nothing that was printed says 1234567" in engine.completions[2].messages[-1].content
    assert (answer.value, answer.stop, answer.confirmed) == (1234567, StopReason.FINAL, False)
    assert answer.reason


async def test_final_var_takes_the_value_from_the_repl() -> None:
    repl = ScriptedRepl([SEEN, CellResult(CellStatus.OK, "", final=Final(30))])
    answer = await ask(ScriptedEngine([LOOK, "FINAL_VAR(fee)"]), repl)
    assert repl.codes[-1] == "FINAL_VAR('fee')"
    assert (answer.value, answer.confirmed) == (30, True)


async def test_a_final_var_of_an_unknown_name_goes_back_to_the_model() -> None:
    failed = CellResult(CellStatus.RAISED, "", error="NameError: no variable 'fee'; there are: hits")
    engine = ScriptedEngine([LOOK, "FINAL_VAR(fee)", 'FINAL("30 euros")'])
    answer = await ask(engine, ScriptedRepl([SEEN, failed]))
    assert "there are: hits" in engine.completions[2].messages[-1].content
    assert answer.confirmed


async def test_a_cut_turn_is_told_and_not_executed() -> None:
    cut = Reply("```repl\nx = [1,", ReplyStop.LENGTH, Usage(100, 0, 1024))
    recorder = KeptEvents()
    engine = ScriptedEngine([cut, LOOK, 'FINAL("30 euros")'])
    answer = await ask(engine, ScriptedRepl([SEEN]), recorder=recorder)
    taken = [event for event in recorder.events if isinstance(event, TurnTaken)]
    assert isinstance(taken[0].turn.action, Malformed)
    assert answer.confirmed


async def test_an_engine_that_can_close_is_asked_to_and_what_it_wrote_is_told_to_the_model() -> None:
    closed = Reply(f"{LOOK}", ReplyStop.CLOSED, Usage(100, 0, 1024), closed_text='")\n```')
    recorder = KeptEvents()
    engine = ScriptedEngine([closed, 'FINAL("30 euros")'])
    engine.info = replace(engine.info, can_close=True)
    answer = await ask(engine, ScriptedRepl([SEEN]), recorder=recorder)
    assert [completion.close_at_limit for completion in engine.completions] == [True, True]
    assert 'its end was written for you: ")\n```' in engine.completions[1].messages[-1].content
    taken = [event for event in recorder.events if isinstance(event, TurnTaken)]
    assert [event.turn.closed_text for event in taken] == ['")\n```', ""]
    assert answer.confirmed


async def test_without_a_grammar_nothing_holds_a_turn_and_nothing_closes_it() -> None:
    engine = ScriptedEngine(['```python\nsearch("fee")', "FINAL('30 euros') as the text says"])
    engine.info = replace(engine.info, can_close=True)
    answer = await ask(engine, ScriptedRepl([SEEN]), grammar=GrammarMode.OFF)
    assert [(one.grammar, one.close_at_limit) for one in engine.completions] == [(None, False)] * 2
    assert (answer.value, answer.confirmed) == ("30 euros", True)


async def test_a_refused_prompt_supports_no_answer() -> None:
    engine = ScriptedEngine([LOOK, "FINAL(1234567)", "FINAL(1234567)"])
    answer = await ask(engine, QueryingRepl(["1234567 " * 5_000]))
    assert not answer.confirmed


async def test_a_word_of_the_question_supports_no_answer() -> None:
    question = "Is the fee 99 euros?"
    engine = ScriptedEngine([LOOK, 'FINAL("99 euros")', 'FINAL("99 euros")'])
    answer = await ask(engine, ScriptedRepl([f"{question}\n{SEEN}"]), question=question)
    assert not answer.confirmed


@pytest.mark.parametrize("nothing", ["FINAL(None)", 'FINAL("")'])
async def test_an_empty_answer_is_questioned_once_and_then_unconfirmed(nothing: str) -> None:
    engine = ScriptedEngine([LOOK, nothing, nothing])
    answer = await ask(engine, ScriptedRepl([SEEN]))
    assert "Your answer was empty" in engine.completions[2].messages[-1].content
    assert (answer.value, answer.confirmed, answer.reason) == (None, False, "the model gave an empty answer")


async def test_a_sub_calls_answer_that_its_limit_cut_says_so() -> None:
    cut = Reply("The fee is", ReplyStop.LENGTH, Usage(100, 0, 512))
    engine = ScriptedEngine([LOOK, cut, 'FINAL("fee")'])
    await ask(engine, QueryingRepl(["What is the fee?"]))
    assert "cut after 512 tokens" in engine.completions[2].messages[-1].content


async def test_code_that_never_ran_allows_no_answer() -> None:
    broken = CellResult(CellStatus.RAISED, "", error="SyntaxError: invalid syntax")
    engine = ScriptedEngine([LOOK, LOOK_AGAIN, 'FINAL("30 euros")'])
    await ask(engine, ScriptedRepl([broken, SEEN]))
    starts = [(completion.grammar or "").splitlines()[0] for completion in engine.completions]
    assert [start.endswith(" block") for start in starts] == [True, True, False]


async def test_two_replies_that_were_cut_are_not_the_same_code() -> None:
    cut = Reply("```repl\nx = [1,", ReplyStop.LENGTH, Usage(100, 0, 1024))
    engine = ScriptedEngine([LOOK, cut, cut, 'FINAL("30 euros")'])
    await ask(engine, ScriptedRepl([SEEN]))
    assert "ran this code before" not in engine.completions[3].messages[-1].content
    assert (engine.completions[3].grammar or "").splitlines()[0].endswith("(block | final)")


async def test_an_engine_that_refuses_for_another_reason_than_its_window_is_not_a_limit() -> None:
    engine = ScriptedEngine([LOOK, EngineRefused("the grammar failed")])
    with pytest.raises(EngineRefused, match="the grammar failed"):
        await ask(engine, ScriptedRepl([SEEN]))


async def test_a_cancelled_run_is_recorded_as_cancelled() -> None:
    class Hanging(ScriptedEngine):
        async def complete(self, completion):
            started.set()
            return await asyncio.Event().wait()

    started, recorder = asyncio.Event(), KeptEvents()
    task = asyncio.create_task(ask(Hanging([]), ScriptedRepl(), recorder=recorder))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(recorder.events[-1], RunEnded)
    assert recorder.events[-1].answer.stop is StopReason.CANCELLED


@pytest.mark.parametrize("failure", [EngineUnavailable("the engine died"), WorkerLost("the worker died")])
async def test_our_own_failures_are_raised_not_observed(failure: Exception) -> None:
    def lost(code: str) -> CellResult:
        raise failure

    engine = ScriptedEngine([failure] if isinstance(failure, EngineUnavailable) else [LOOK])
    with pytest.raises(type(failure)):
        await ask(engine, ScriptedRepl([lost]))


async def test_a_sub_call_whose_engine_dies_raises_the_engines_own_error() -> None:
    engine = ScriptedEngine([LOOK, EngineUnavailable("the engine died")])
    with pytest.raises(EngineUnavailable):
        await ask(engine, QueryingRepl(["a?"]))


async def test_each_turn_is_announced_with_the_state_it_is_held_to() -> None:
    recorder = KeptEvents()
    await ask(ScriptedEngine([LOOK, 'FINAL("30 euros")']), ScriptedRepl([SEEN]), recorder=recorder)
    assert [event for event in recorder.events if isinstance(event, TurnStarted)] == [
        TurnStarted("0", 1, "first"),
        TurnStarted("0", 2, "open"),
    ]


async def test_an_answer_of_the_wrong_type_goes_back_to_the_model() -> None:
    engine = ScriptedEngine([LOOK, 'FINAL("30 euros")', "FINAL(30)"])
    answer = await ask(engine, ScriptedRepl([SEEN]), answer_schema={"type": "integer"})
    assert 'literal of this JSON schema: {"type": "integer"}' in engine.completions[0].messages[-1].content
    assert "the answer is '30 euros', but must be of type integer" in engine.completions[2].messages[-1].content
    assert all("\nanswered: typed_" in (one.grammar or "") for one in engine.completions[1:])
    assert (answer.value, answer.confirmed) == (30, True)


async def test_a_variable_of_the_wrong_type_is_no_confirmed_answer_on_the_last_turn() -> None:
    repl = ScriptedRepl([SEEN, CellResult(CellStatus.OK, "", final=Final("30 euros"))])
    answer = await ask(ScriptedEngine([LOOK, "FINAL_VAR(fee)"]), repl, answer_schema={"type": "integer"}, max_turns=2)
    assert (answer.value, answer.confirmed) == ("30 euros", False)
    assert "must be of type integer" in answer.reason


async def test_after_an_answer_that_rests_on_nothing_the_next_turn_must_look() -> None:
    recorder = KeptEvents()
    turns = [LOOK, 'FINAL("not in the documents")', LOOK_AGAIN, 'FINAL("30 euros")']
    engine = ScriptedEngine(turns)
    answer = await ask(engine, ScriptedRepl(["0 matches for 'fee'\n", SEEN]), recorder=recorder)
    states = [event.state for event in recorder.events if isinstance(event, TurnStarted)]
    assert states == ["first", "open", "first", "open"]
    told = engine.completions[2].messages[-1].content
    assert "Let llm_query read what search(question" in told
    assert told.endswith("10 turns left. Write a block of Python.")
    assert (answer.value, answer.confirmed) == ("30 euros", True)
