"""RLM and AsyncRLM over a scripted engine, in a real jail."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_local import RLM, AsyncRLM, Limits
from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.errors import ConfigError, EngineUnavailable, RlmError
from rlm_local.events import RunEnded, RunStarted, TurnStarted, Validated
from rlm_local.prompts import load_profile
from rlm_local.resume import read_again, replay
from rlm_local.runtime import Runtime
from rlm_local.testing import ScriptedEngine
from rlm_local.trace import read_trace
from rlm_local.types import Answer, Completion, Reply

pytestmark = [pytest.mark.jail, pytest.mark.usefixtures("nsjail")]

LEASE = {"lease": "The notice period is ninety days.\n"}
QUESTION = "How long is the notice period?"
LOOK = '```repl\nprint(search("notice", show=False)[0].text)\n```'
LIMITS = Limits(max_tokens=1_000_000)


def runtime(*replies: str | Exception, engine: ScriptedEngine | None = None) -> Runtime:
    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    engine = engine or ScriptedEngine(replies, window_tokens=32_000)
    return Runtime(card, load_profile("small"), engine, "0" * 64)


class Hanging(ScriptedEngine):
    """Never answers. cancelled: a request was given up."""

    def __init__(self) -> None:
        super().__init__([], window_tokens=32_000)
        self.asked = asyncio.Event()
        self.cancelled = threading.Event()

    async def complete(self, completion: Completion) -> Reply:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError


def test_an_answer_has_its_value_and_its_citations() -> None:
    with RLM(runtime(LOOK, 'FINAL("ninety days")')) as rlm:
        answer = rlm.ask(QUESTION, LEASE, limits=LIMITS)
    assert (answer.value, answer.confirmed) == ("ninety days", True)
    assert answer.citations[0].quote in LEASE["lease"]


def test_a_schema_holds_the_answer_and_a_wrong_one_is_refused_before_anything_runs() -> None:
    with RLM(runtime(LOOK, "FINAL(90)")) as rlm:
        with pytest.raises(ConfigError):
            rlm.ask(QUESTION, LEASE, schema={"type": "no such type"})
        printed = {"lease": "The notice period is 90 days.\n"}
        assert rlm.ask(QUESTION, printed, limits=LIMITS, schema={"type": "integer"}).value == 90


def days(value: object) -> None:
    if "days" not in str(value):
        raise ValueError("say it in days")


async def test_a_rejected_answer_is_mended_in_one_turn() -> None:
    engine = ScriptedEngine([LOOK, 'FINAL("ninety")', 'FINAL("ninety days")'], window_tokens=32_000)
    answer = await AsyncRLM(runtime(engine=engine)).ask(QUESTION, LEASE, limits=LIMITS, validator=days)
    assert (answer.value, answer.confirmed, answer.turns) == ("ninety days", True, 3)
    assert "Your answer was not accepted: say it in days." in engine.completions[-1].messages[-1].content


async def test_an_answer_that_is_rejected_twice_is_unconfirmed_and_says_why() -> None:
    rlm = AsyncRLM(runtime(LOOK, 'FINAL("ninety")', 'FINAL("the ninety")'))
    answer = await rlm.ask(QUESTION, LEASE, limits=LIMITS, validator=days)
    assert (answer.value, answer.confirmed) == ("the ninety", False)
    assert answer.reason == "the answer was not accepted: say it in days"


async def test_a_rejected_answer_replays_without_the_check(tmp_path: Path) -> None:
    lease, trace = tmp_path / "lease.txt", tmp_path / "run.jsonl"
    lease.write_text(LEASE["lease"])
    rlm = AsyncRLM(runtime(LOOK, 'FINAL("ninety")', 'FINAL("ninety days")'))
    await rlm.ask(QUESTION, lease, limits=LIMITS, validator=days, trace=trace)
    read = read_trace(trace)
    assert [one.complaint for one in read.events if isinstance(one, Validated)] == ["say it in days", ""]
    assert await replay(read_again(read)) == []


async def test_events_come_as_they_happen_and_end_with_the_answer() -> None:
    rlm = AsyncRLM(runtime(LOOK, 'FINAL("ninety days")'))
    events = [event async for event in rlm.events(QUESTION, LEASE, limits=LIMITS)]
    assert isinstance(events[0], RunStarted)
    assert sum(isinstance(event, TurnStarted) for event in events) == 2
    assert isinstance(events[-1], RunEnded)
    assert events[-1].answer.value == "ninety days"


def test_events_come_without_a_loop_too() -> None:
    with RLM(runtime(LOOK, 'FINAL("ninety days")')) as rlm:
        events = list(rlm.events(QUESTION, LEASE, limits=LIMITS))
    assert isinstance(events[-1], RunEnded)


def test_events_that_nobody_reads_to_their_end_may_be_left_after_the_rlm_is_closed() -> None:
    engine = Hanging()
    with RLM(runtime(engine=engine)) as rlm:
        left, asked = (rlm.events(QUESTION, LEASE, limits=LIMITS) for _ in range(2))
        assert isinstance(next(left), RunStarted)
        assert isinstance(next(asked), RunStarted)
    left.close()  # as it is when it is collected
    with pytest.raises(RlmError, match="is closed"):
        next(asked)


async def test_what_ends_a_run_is_raised_behind_its_events() -> None:
    rlm = AsyncRLM(runtime(LOOK, EngineUnavailable("gone")))
    events = rlm.events(QUESTION, LEASE, limits=LIMITS)
    assert isinstance(await anext(events), RunStarted)
    with pytest.raises(EngineUnavailable, match="gone"):
        _ = [event async for event in events]


async def test_a_reader_of_events_who_leaves_ends_the_run() -> None:
    engine = Hanging()
    async with aclosing(AsyncRLM(runtime(engine=engine)).events(QUESTION, LEASE, limits=LIMITS)) as events:
        async for event in events:
            if isinstance(event, TurnStarted):
                break
        await engine.asked.wait()
    assert engine.cancelled.is_set()


async def test_closing_ends_runs_and_tells_those_who_wait_for_them() -> None:
    engine = Hanging()
    rlm = AsyncRLM(runtime(engine=engine))
    asking = asyncio.create_task(rlm.ask(QUESTION, LEASE, limits=LIMITS))
    await engine.asked.wait()
    await rlm.close()
    with pytest.raises(RlmError, match="was closed before the answer was there"):
        await asking
    assert engine.cancelled.is_set()
    with pytest.raises(RlmError, match="is closed; make another one"):
        await rlm.ask(QUESTION, LEASE)


def test_one_that_nobody_holds_any_more_ends_its_thread() -> None:
    rlm = RLM(runtime(LOOK, 'FINAL("ninety days")'))
    rlm.ask(QUESTION, LEASE, limits=LIMITS)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "rlm-local"]
    del rlm
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


async def test_an_interrupted_run_goes_on_from_the_file_that_it_kept(tmp_path: Path) -> None:
    lease, trace = tmp_path / "lease.txt", tmp_path / "run.jsonl"
    lease.write_text(LEASE["lease"])
    with pytest.raises(EngineUnavailable):
        await AsyncRLM(runtime(LOOK, EngineUnavailable("gone"))).ask(QUESTION, lease, limits=LIMITS, trace=trace)
    answer = await AsyncRLM(runtime('FINAL("ninety days")')).resume(trace)
    assert (answer.value, answer.turns) == ("ninety days", 2)


@pytest.mark.parametrize(
    "ask",
    [
        lambda rlm: rlm.ask("  ", LEASE),
        lambda rlm: rlm.ask(QUESTION, []),
        lambda rlm: rlm.ask(QUESTION, LEASE, require_coverage=2.0),
        lambda rlm: rlm.ask(QUESTION, LEASE, grammar="strict"),
        lambda rlm: rlm.ask(QUESTION, LEASE, route="fast"),
        lambda rlm: rlm.ask(QUESTION, LEASE, limits={"max_turns": 3}),
        lambda rlm: rlm.ask(QUESTION, LEASE, ask_before=-1),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(ask: Callable[[RLM], Answer]) -> None:
    with RLM(runtime()) as rlm, pytest.raises(ConfigError):
        ask(rlm)


def test_an_option_that_does_not_exist_is_named() -> None:
    with RLM(runtime()) as rlm, pytest.raises(TypeError, match="there is no 'shema'; there are limits, schema"):
        rlm.ask(QUESTION, LEASE, shema={})  # type: ignore[call-arg]
