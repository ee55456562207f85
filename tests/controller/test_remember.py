"""Equal requests of a run are asked once, and what a trace holds is not asked at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rlm_local.controller.budget import Budget
from rlm_local.controller.clock import Clock
from rlm_local.controller.past import Past
from rlm_local.controller.remember import Asker, Memory, request_digest
from rlm_local.errors import EngineRefused
from rlm_local.events import Replied
from rlm_local.limits import Limits
from rlm_local.testing import AnsweringEngine, KeptEvents, ScriptedEngine
from rlm_local.types import Completion, Message, Reply, ReplyStop, Role, Sampling, Usage

ASK = Completion((Message(Role.USER, "price?"),), max_tokens=8)
PAID = Reply("30", ReplyStop.COMPLETE, Usage(40, 0, 2))


def asker(engine: object, past: Past | None = None, *, recorder: KeptEvents | None = None) -> Asker:
    clock = Clock()
    memory = Memory(engine, recorder or KeptEvents(), past or Past(), clock)  # type: ignore[arg-type]
    return Asker(memory, "0", Budget(Limits()))


async def test_an_equal_request_is_answered_from_memory_at_no_cost() -> None:
    engine, recorder = AnsweringEngine(lambda _: "30"), KeptEvents()
    asking = asker(engine, recorder=recorder)
    first, second = [await asking.complete(ASK) for _ in range(2)]
    assert (first.text, second.text, second.usage) == ("30", "30", Usage())
    assert len(engine.completions) == len(recorder.events) == 1
    assert asking.budget.remembered == 1


async def test_equal_requests_side_by_side_are_asked_once() -> None:
    engine = AnsweringEngine(lambda _: "30", tokens_each=10)
    asking = asker(engine)
    replies = await asyncio.gather(*(asking.complete(ASK) for _ in range(10)))
    assert {reply.text for reply in replies} == {"30"}
    assert (len(engine.completions), asking.budget.remembered) == (1, 9)
    assert sum((reply.usage for reply in replies), Usage()).completion_tokens == 10  # of the one that was asked


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, max_tokens=9),
        replace(ASK, grammar="start: /a/"),
        replace(ASK, sampling=Sampling(seed=1)),
        replace(ASK, messages=(Message(Role.SYSTEM, "price?"),)),
        replace(ASK, close_at_limit=True),
    ],
)
def test_whatever_decides_a_reply_tells_requests_apart(other: Completion) -> None:
    assert request_digest(other) != request_digest(ASK)


async def test_what_is_drawn_by_chance_is_never_remembered() -> None:
    engine = AnsweringEngine(lambda _: "30")
    asking, hot = asker(engine), replace(ASK, sampling=Sampling(temperature=0.7))
    await asking.complete(hot)
    await asking.complete(hot)
    assert (len(engine.completions), asking.budget.remembered) == (2, 0)


async def test_a_request_that_failed_is_asked_again_by_who_waited_for_it() -> None:
    asking = asker(ScriptedEngine([EngineRefused("no"), "30"]))
    first, second = await asyncio.gather(asking.complete(ASK), asking.complete(ASK), return_exceptions=True)
    assert isinstance(first, EngineRefused)
    assert isinstance(second, Reply)
    assert second.usage.completion_tokens == 10


async def test_a_request_whose_asker_was_cancelled_is_asked_again_by_who_waited_for_it() -> None:
    class Hanging(AnsweringEngine):
        async def complete(self, completion: Completion) -> Reply:
            if not self.completions:
                self.completions.append(completion)
                await asyncio.Event().wait()
            return await super().complete(completion)

    asking = asker(Hanging(lambda _: "30"))
    first = asyncio.create_task(asking.complete(ASK))
    await asyncio.sleep(0)
    second = asyncio.create_task(asking.complete(ASK))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).text == "30"


async def test_a_reply_of_the_past_is_given_once_as_it_was_paid_and_then_remembered() -> None:
    past = Past([Replied("0", 1, request_digest(ASK), PAID)], [1.0])
    asking = asker(ScriptedEngine([]), past)
    assert [await asking.complete(ASK) for _ in range(2)] == [PAID, replace(PAID, usage=Usage())]


async def test_replies_of_a_turn_that_is_over_are_known_without_being_asked() -> None:
    past = Past([Replied("0", 1, request_digest(ASK), PAID)], [1.0])
    clock = Clock()
    memory = Memory(ScriptedEngine([]), KeptEvents(), past, clock)
    memory.recall("0", 1)
    asking = Asker(memory, "0", Budget(Limits()))
    assert (await asking.complete(ASK)).usage == Usage()  # paid when the turn was taken


async def test_a_text_is_counted_once() -> None:
    engine, recorder = AnsweringEngine(lambda _: ""), KeptEvents()
    asking = asker(engine, recorder=recorder)
    assert [await asking.count_tokens("twelve chars") for _ in range(2)] == [3, 3]
    assert len(recorder.events) == 1


def test_a_clock_tells_the_past_until_it_goes_live_and_goes_on_from_there() -> None:
    now = [100.0]
    clock, told = Clock(past_s=50.0, now=lambda: now[0]), []
    clock.when_live(lambda: told.append(clock.elapsed_s()))
    clock.tell(20.0)
    now[0] += 7
    assert (clock.elapsed_s(), clock.is_live, told) == (20.0, False, [])
    clock.go_live()
    now[0] += 3
    assert (clock.elapsed_s(), told) == (53.0, [50.0])
