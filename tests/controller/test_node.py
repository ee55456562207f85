"""One run: complete, decode, execute, observe, until a final or a limit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from rlm_local.controller import Cite, Ports, run_node
from rlm_local.errors import EngineRefused, EngineUnavailable, WorkerLost
from rlm_local.events import Abandoned, RunEnded, SubCallDone, TurnStarted, TurnTaken
from rlm_local.limits import Limits, writing_at_most
from rlm_local.ports import CallCancelled
from rlm_local.price import Price
from rlm_local.prompts import load_profile
from rlm_local.testing import AnsweringEngine, KeptEvents, QueryingRepl, ScriptedEngine, ScriptedRepl
from rlm_local.types import (
    DEFAULT_GRAMMAR,
    Answer,
    CellResult,
    CellStatus,
    Citation,
    Corpus,
    Document,
    Final,
    GrammarMode,
    JsonValue,
    Malformed,
    Reply,
    ReplyStop,
    Request,
    Role,
    Sampling,
    Span,
    StopReason,
    Usage,
)

TEXT = "The archive closes at noon. The fee is 30 euros."
CORPUS = Corpus((Document("rules.txt", TEXT),), TEXT, (0,))
LOOK = '```repl\nsearch("fee")\n```'
LOOK_AGAIN = '```repl\nsearch("euros")\n```'
SEEN = "1 match for 'fee'\n[1] rules.txt line 1 (offset 28):\nThe fee is 30 euros.\n"


def no_citations(
    value: JsonValue, spans: Sequence[Span], readings: Sequence[str], *, sources: Sequence[Span] = ()
) -> tuple[Citation, ...]:
    return ()


async def ask(
    engine: ScriptedEngine,
    repl: object,
    *,
    recorder: KeptEvents | None = None,
    question: str = "What is the fee?",
    profile: str = "small",
    grammar: GrammarMode = DEFAULT_GRAMMAR,
    answer_schema: JsonValue = None,
    cite: Cite = no_citations,
    **limits: object,
) -> Answer:
    bounds = Limits(**{"max_tokens": 100_000, **limits})  # type: ignore[arg-type]
    return await run_node(
        Request(question, CORPUS.documents, bounds, grammar, answer_schema),
        CORPUS,
        Ports(engine, repl, recorder or KeptEvents()),  # type: ignore[arg-type]
        load_profile(profile),
        sampling=Sampling(),
        cite=cite,
    )


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


async def test_a_cell_is_told_what_is_left_to_spend() -> None:
    repl = ScriptedRepl([SEEN])
    await ask(ScriptedEngine([LOOK, 'FINAL("30 euros")']), repl, max_subcalls=7)
    (facts,) = repl.facts
    left = facts["LIMITS"]
    assert isinstance(left, dict)
    assert set(left) == {"calls", "tokens", "seconds", "prompt_tokens", "prompt_characters"}
    assert left["calls"] == 7


async def test_sub_calls_are_counted_and_refused_past_their_limit() -> None:
    recorder = KeptEvents()
    engine = ScriptedEngine([LOOK, "yes", "no", 'FINAL("yes")'])
    answer = await ask(engine, QueryingRepl(["a?", "b?", "c?"]), recorder=recorder, max_subcalls=2)
    done = [event.subcall for event in recorder.events if isinstance(event, SubCallDone)]
    assert sorted(call.answer for call in done) == ["", "no", "yes"]
    assert "all 2 sub-calls" in next(call.refused for call in done if call.refused)
    assert answer.subcalls == 2
    assert answer.usage.completion_tokens == 40  # two turns and two sub-calls, 10 each


async def test_a_bound_on_what_is_written_leaves_room_for_an_answer() -> None:
    bounds = writing_at_most(Limits(max_tokens=100_000), 256)  # 64 a turn, 32 an answer, 16 a sub-call
    recorder = KeptEvents()
    engine = ScriptedEngine([LOOK, *["yes"] * 14, 'FINAL("yes")'])
    answer = await run_node(
        Request("What is the fee?", CORPUS.documents, bounds),
        CORPUS,
        Ports(engine, QueryingRepl([f"{number}?" for number in range(40)]), recorder),
        load_profile("small"),
        sampling=Sampling(),
        cite=no_citations,
    )
    # 10 are written by the turn; of the 246 that are left 96 are kept for a turn and an answer, and a sub-call begins
    # while 16 of the others are left: 14 of them with 10 each.
    refused = [event.subcall.refused for event in recorder.events if isinstance(event, SubCallDone)]
    assert len([said for said in refused if not said]) == answer.subcalls == 14
    assert {said for said in refused if said} == {"the reply may take 16 tokens, but only 10 of this run are left"}
    assert engine.completions[-1].max_tokens == 64
    assert (answer.value, answer.stop, answer.usage.completion_tokens) == ("yes", StopReason.FINAL, 160)


async def test_a_sub_call_longer_than_the_window_is_refused_with_numbers_and_a_repair() -> None:
    engine = ScriptedEngine([LOOK, 'FINAL("a")'])
    answer = await ask(engine, QueryingRepl(["x" * 40_000]))
    assert "10000 tokens" in engine.completions[1].messages[-1].content
    assert "split it into 2" in engine.completions[1].messages[-1].content
    assert answer.subcalls == 0  # a call that was not made is not counted


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


async def test_one_long_output_does_not_end_the_run_of_a_large_model_at_the_default_window() -> None:
    engine = ScriptedEngine([LOOK, LOOK_AGAIN, 'FINAL("30 euros")'], window_tokens=16_384)
    answer = await ask(engine, ScriptedRepl(["word " * 20_000, SEEN]), profile="large")
    assert (answer.stop, answer.confirmed) == (StopReason.FINAL, True)


async def test_an_engine_that_refuses_for_another_reason_than_its_window_is_not_a_limit() -> None:
    engine = ScriptedEngine([LOOK, EngineRefused("the grammar failed")])
    with pytest.raises(EngineRefused, match="the grammar failed"):
        await ask(engine, ScriptedRepl([SEEN]))


async def test_tokens_that_run_out_end_the_run_with_an_answer_turn() -> None:
    engine = ScriptedEngine([LOOK] + [f'```repl\nsearch("fee {n}")\n```' for n in range(20)], tokens_each=900)
    repl = ScriptedRepl([SEEN] * 20)
    answer = await ask(engine, repl, max_tokens=12_000, max_turns=30)
    assert answer.stop is StopReason.TOKEN_LIMIT
    assert not answer.confirmed
    assert answer.usage.total_tokens <= 12_000
    assert "--max-tokens" in answer.reason


async def test_seconds_that_run_out_end_the_run_with_what_was_seen() -> None:
    class Hanging(ScriptedEngine):
        async def complete(self, completion):
            if self.completions:
                await asyncio.Event().wait()
            return await super().complete(completion)

    recorder = KeptEvents()
    answer = await ask(Hanging([LOOK]), ScriptedRepl([SEEN]), recorder=recorder, wall_s=2.0)
    assert answer.stop is StopReason.TIME_LIMIT
    assert "30 euros" in str(answer.value)
    assert recorder.events[-1] == RunEnded(answer)


async def test_a_conversation_that_fills_the_window_is_ended_by_an_answer() -> None:
    engine = ScriptedEngine([LOOK, LOOK_AGAIN, 'FINAL("30 euros")'], window_tokens=4_600, tokens_each=500)
    answer = await ask(engine, ScriptedRepl([SEEN * 60, SEEN * 60]), turn_tokens=600)
    assert (answer.stop, answer.value) == (StopReason.WINDOW_LIMIT, "30 euros")


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


async def test_tokens_of_cancelled_sub_calls_are_booked_and_recorded_as_the_engine_says() -> None:
    class Cancelled(ScriptedEngine):
        async def complete(self, completion):
            if not self.completions:
                return await super().complete(completion)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise CallCancelled(Usage(30, 20, 7)) from None

    recorder = KeptEvents()
    engine = Cancelled([LOOK])
    answer = await ask(engine, QueryingRepl(["a?", "b?"]), recorder=recorder, wall_s=2.0)
    assert answer.stop is StopReason.TIME_LIMIT
    assert answer.usage.completion_tokens == 10 + 2 * 7
    assert [event.usage for event in recorder.events if isinstance(event, Abandoned)] == [Usage(30, 20, 7)] * 2


async def test_requests_at_one_time_are_bounded_over_the_whole_run() -> None:
    class Counting(AnsweringEngine):
        most = now = 0

        async def complete(self, completion):
            self.now += 1
            self.most = max(self.most, self.now)
            reply = await super().complete(completion)
            self.now -= 1
            return reply

    engine = Counting(lambda asked: LOOK if asked.grammar else "yes", window_tokens=8_192)
    await ask(engine, QueryingRepl([f"{n}?" for n in range(20)]), max_concurrency=3, max_turns=2)
    assert engine.most == 3


async def test_the_budget_that_is_left_is_told_and_what_is_low_by_name() -> None:
    engine = ScriptedEngine([LOOK, "yes", "yes", 'FINAL("yes")'])
    await ask(engine, QueryingRepl(["a?", "b?"]), max_subcalls=2)
    assert "Of the sub-calls only 0 are left." in engine.completions[-1].messages[-1].content
    large = ScriptedEngine([LOOK, 'FINAL("30 euros")'], window_tokens=32_000)
    await ask(large, ScriptedRepl([SEEN]), profile="large")
    assert "11 turns left, 10,000 sub-calls, " in large.completions[-1].messages[-1].content


async def test_money_that_runs_out_is_told_and_ends_the_run_with_an_answer_turn() -> None:
    price = Price("EUR", 10.0, 1.0, 40.0)
    engine = ScriptedEngine([LOOK, LOOK_AGAIN, 'FINAL("30 euros")'])
    answer = await ask(engine, ScriptedRepl([SEEN, SEEN]), price=price, max_cost=0.1)
    assert answer.stop is StopReason.COST_LIMIT
    assert answer.reason == "of 0.100 EUR too little is left for another turn; raise --max-cost"
    assert answer.cost is not None
    assert 0 < answer.cost.amount <= 0.1


async def test_a_sub_call_that_is_too_dear_is_refused_with_both_amounts() -> None:
    price = Price("EUR", 10.0, 1.0, 40.0)
    engine = ScriptedEngine([LOOK, 'FINAL("30 euros")'])
    recorder = KeptEvents()
    await ask(engine, QueryingRepl(["word " * 3_000]), recorder=recorder, price=price, max_cost=0.1)
    [asked] = [event for event in recorder.events if isinstance(event, SubCallDone)]
    assert re.fullmatch(
        r"the call may cost 0\.\d+ EUR, but only 0\.\d+ EUR of this run are left", asked.subcall.refused
    )


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
