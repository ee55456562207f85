"""What a run may spend: it is told, refused beyond it, and ends with an answer before it is spent."""

from __future__ import annotations

import asyncio
import re

from rlm_local.controller import Ports, run_node
from rlm_local.events import Abandoned, RunEnded, SubCallDone
from rlm_local.limits import Limits, writing_at_most
from rlm_local.ports import CallCancelled
from rlm_local.price import Price
from rlm_local.prompts import load_profile
from rlm_local.testing import AnsweringEngine, KeptEvents, QueryingRepl, ScriptedEngine, ScriptedRepl
from rlm_local.types import (
    Request,
    Sampling,
    StopReason,
    Usage,
)
from tests.controller.asking import CORPUS, LOOK, LOOK_AGAIN, SEEN, ask, no_citations


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


async def test_one_long_output_does_not_end_the_run_of_a_large_model_at_the_default_window() -> None:
    engine = ScriptedEngine([LOOK, LOOK_AGAIN, 'FINAL("30 euros")'], window_tokens=16_384)
    answer = await ask(engine, ScriptedRepl(["word " * 20_000, SEEN]), profile="large")
    assert (answer.stop, answer.confirmed) == (StopReason.FINAL, True)


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
