"""Typed calls within a run: budgets hold, the recorder hears of them, and what was read supports citations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from rlm_local.controller.budget import Budget
from rlm_local.controller.clock import Clock
from rlm_local.controller.past import Past
from rlm_local.controller.record import CallRecord
from rlm_local.controller.recurse import SubCalls
from rlm_local.controller.remember import Asker, Memory
from rlm_local.errors import EngineUnavailable, FanOutHeld
from rlm_local.events import ItemsReplied, PageDone, SubCallDone
from rlm_local.limits import Limits
from rlm_local.ports import BadCall
from rlm_local.prompts import load_profile
from rlm_local.testing import AnsweringEngine, KeptEvents
from rlm_local.types import CallForm, CallKind, Completion, JsonValue, Page, Reply, ReplyStop, SubCall, Usage


class Run:
    """Sub-calls of one run, and what became known of them."""

    def __init__(
        self,
        answer: Callable[[Completion], str | Reply | Exception],
        past: Past | None = None,
        ask_before: int | None = None,
        **limits: float,
    ) -> None:
        self.engine = AnsweringEngine(answer, can_close=True)
        self.budget = Budget(Limits(**limits), now=lambda: 0.0)  # type: ignore[arg-type]
        self.recorder = KeptEvents()
        known = past or Past()
        memory = Memory(self.engine, self.recorder, known, Clock())
        self.subcalls = SubCalls(
            self.engine,
            Asker(memory, "0", self.budget, asks_items=True),
            load_profile("small"),
            self.budget,
            prompt_tokens=7_000,
            prompt_chars=20_000,
            overhead_tokens=100,
            record=CallRecord(self.recorder, "0", turn=lambda: 1),
            ask_before=ask_before,
        )

    @property
    def done(self) -> list[SubCall]:
        return [event.subcall for event in self.recorder.events if isinstance(event, SubCallDone)]

    @property
    def pages(self) -> list[Page]:
        return [event.page for event in self.recorder.events if isinstance(event, PageDone)]

    async def __call__(self, kind: str, texts: Sequence[str], **args: JsonValue) -> Sequence[SubCall]:
        return await self.subcalls(texts, CallForm(CallKind(kind), args))


async def test_a_query_is_one_of_its_choices() -> None:
    run = Run(lambda completion: completion.choices[1])
    (one,) = await run("query", ["which?"], choices=["a", "b"])
    assert one.result == "b"
    assert run.done == [one]


async def test_a_query_with_a_schema_returns_a_value_and_tells_the_model_the_schema() -> None:
    run = Run(lambda _: '{"n": [1, null]}')
    (one,) = await run("query", ["what?"], schema={"type": "object"})
    assert one.result == {"n": [1, None]}
    assert run.engine.last is not None
    assert run.engine.last.messages[-1].content == 'what?\n\nReply with JSON of this schema: {"type": "object"}'
    assert run.engine.last.close_at_limit


async def test_a_null_that_the_schema_allows_is_none_and_not_a_text() -> None:
    (one,) = await Run(lambda _: "null")("query", ["what?"], schema={"type": "null"})
    assert (one.result, one.refused) == (None, "")


async def test_a_query_with_a_regex_and_fewer_tokens_is_held_to_them() -> None:
    run = Run(lambda _: "2026")
    (one,) = await run("query", ["when?"], regex="[0-9]{4}", max_tokens=8)
    assert one.result == "2026"
    assert run.engine.last is not None
    assert (run.engine.last.regex, run.engine.last.max_tokens) == ("[0-9]{4}", 8)


async def test_a_typed_reply_that_was_cut_is_refused_and_paid() -> None:
    run = Run(lambda _: Reply("[1", ReplyStop.CLOSED, Usage(50, 0, 8), closed_text="]"))
    (one,) = await run("query", ["list"], schema={"type": "array"}, max_tokens=8)
    assert "cut after 8 tokens" in one.refused
    assert run.budget.usage == Usage(50, 0, 8)


async def test_each_item_is_a_sub_call_and_a_page_is_told_once() -> None:
    run = Run(lambda completion: completion.messages[-1].content.upper(), max_subcalls=10)
    made = await run("map", ["a", "b", "c"], instruction="shout")
    assert [one.result for one in made] == ["A", "B", "C"]
    assert run.budget.subcalls == 3
    assert run.done == []
    (page,) = run.pages
    assert (page.kind, page.items, page.values, page.failures) == ("map", ("a", "b", "c"), ("A", "B", "C"), ())
    assert page.usage == run.budget.usage


async def test_more_items_than_sub_calls_are_refused_before_the_first_of_them() -> None:
    run = Run(lambda _: "x", max_subcalls=10)
    with pytest.raises(BadCall, match="11 items need 11 sub-calls, but 10 of 10 are left; take fewer"):
        await run.subcalls(["a", "b"], CallForm(CallKind.MAP, {"instruction": "x"}, ahead=9))
    assert (run.engine.count, run.budget.subcalls) == (0, 0)


async def test_what_a_classification_learns_from_is_part_of_what_it_needs() -> None:
    run = Run(_parity, max_subcalls=9)
    examples: JsonValue = [["1", "odd"], ["2", "even"]]
    for args, calls in (({}, 6 + 4), ({"examples": examples, "passes": 2}, 6 + 6 + 2)):
        with pytest.raises(BadCall, match=f"6 items need {calls} sub-calls, but 9 of 9 are left"):
            await run("classify", list("123456"), labels=["odd", "even"], **args)
    await run("classify", list("12345"), labels=["odd", "even"])
    assert run.budget.subcalls == 9
    assert all(not one for one in run.pages[0].failures)


async def test_more_items_than_tokens_are_refused_with_both_numbers() -> None:
    run = Run(lambda _: "x", max_subcalls=1_000, max_tokens=5_000)
    run.budget.kept = Usage(1_000)
    with pytest.raises(
        BadCall, match=r"100 items need 100 sub-calls of at least \d+ tokens each, .* but 4,000 of this"
    ):
        await run("map", ["a"] * 100, instruction="x")
    assert run.engine.count == 0


async def test_tokens_that_run_out_on_the_way_fail_the_items_that_are_left() -> None:
    used = Usage(900, 0, 50)
    run = Run(lambda _: Reply("x", ReplyStop.COMPLETE, used), max_subcalls=1_000, max_tokens=20_000)
    made = await run("map", [f"a{number}" for number in range(100)], instruction="x", max_tokens=8)
    assert sum(not one.refused for one in made) == 64  # as many as were under way when the tokens were spent
    assert all("of this run are left" in one.refused for one in made if one.refused)


async def test_a_thousand_items_of_a_scripted_engine_are_all_counted() -> None:
    run = Run(_parity, max_subcalls=2_000, max_tokens=10**7)
    made = await run("classify", [str(number) for number in range(1_000)], labels=["odd", "even"])
    labels = [one.value["label"] for one in made if isinstance(one.value, dict)]
    assert labels == ["odd" if number % 2 else "even" for number in range(1_000)]


def _parity(completion: Completion) -> str:
    text = completion.messages[-1].content
    return "odd" if text.isdigit() and int(text) % 2 else "even"


async def test_what_is_left_is_told_in_numbers() -> None:
    run = Run(_parity, max_subcalls=10, max_tokens=5_000, wall_s=60)
    run.budget.kept = Usage(1_000)
    await run("classify", ["1", "2"], labels=["odd", "even"])
    left = run.subcalls.limits()
    assert isinstance(left, dict)
    assert (left["calls"], left["prompt_tokens"], left["prompt_characters"]) == (4, 7_000, 20_000)
    assert left["tokens"] == 4_000 - run.budget.usage.total_tokens
    assert left["seconds"] == 60


FRAME = CallForm(CallKind.MAP, {"instruction": "shout"})


def shouting(completion: Completion) -> str:
    return completion.messages[-1].content.upper()


async def test_a_frame_whose_items_are_known_from_before_is_not_asked_again_and_costs_what_it_cost() -> None:
    whole = Run(shouting)
    made = await whole.subcalls(["a", "b", "c"], FRAME)
    again = Run(shouting, Past(whole.recorder.events, [0.0] * len(whole.recorder.events)))
    assert [one.result for one in await again.subcalls(["a", "b", "c"], FRAME)] == [one.result for one in made]
    assert again.engine.count == 0
    assert (again.budget.usage, again.budget.subcalls) == (whole.budget.usage, whole.budget.subcalls)
    assert again.pages == whole.pages


async def test_a_frame_of_other_items_or_arguments_is_asked_for_what_is_new_in_it() -> None:
    whole = Run(shouting)
    await whole.subcalls(["a", "b"], FRAME)
    again = Run(shouting, Past(whole.recorder.events, [0.0] * len(whole.recorder.events)))
    await again.subcalls(["a", "c"], FRAME)
    await again.subcalls(["a", "b"], CallForm(CallKind.MAP, {"instruction": "whisper"}))
    assert again.engine.count == 1 + 2


async def test_a_frame_costs_what_it_learned_from_too() -> None:
    run = Run(_parity)
    await asyncio.gather(
        run("classify", ["1", "2"], labels=["odd", "even"]), run("map", ["a"], instruction="x"), run("query", ["?"])
    )
    frames = [event.spent for event in run.recorder.events if isinstance(event, PageDone)]
    assert sorted(spent.subcalls for spent in frames) == [1, 2 + 4]
    (asked,) = run.done
    assert sum((spent.usage for spent in frames), asked.usage) == run.budget.usage


async def test_what_a_frame_has_cost_that_was_cut_off_is_told() -> None:
    def fails(completion: Completion) -> str | Exception:
        text = completion.messages[-1].content
        return EngineUnavailable("gone") if text == "d" else text

    run = Run(fails, max_concurrency=1)
    with pytest.raises(EngineUnavailable):
        await run.subcalls(["a", "b", "c", "d"], FRAME)
    told = [event.replies for event in run.recorder.events if isinstance(event, ItemsReplied)]
    assert [len(one) for one in told] == [1, 1, 1]
    assert sum((one.reply.usage for (one,) in told), Usage()) == run.budget.usage
    assert run.pages == []


@pytest.mark.parametrize("replied", [1, 30, 60, 87])  # in the first pass over the items, and in the second
async def test_a_frame_that_was_cut_off_asks_only_for_what_it_has_no_reply_to(replied: int) -> None:
    def fails(completion: Completion) -> str | Exception:
        return EngineUnavailable("gone") if cut.engine.count > replied else _parity(completion)

    whole, cut = Run(_parity, max_subcalls=100), Run(fails, max_subcalls=100, max_concurrency=1)
    numbers = [str(number) for number in range(40)]
    form = CallForm(CallKind.CLASSIFY, {"labels": ["odd", "even"], "passes": 2})
    made = await whole.subcalls(numbers, form)
    with pytest.raises(EngineUnavailable):
        await cut.subcalls(numbers, form)
    again = Run(_parity, Past(cut.recorder.events, [0.0] * len(cut.recorder.events)), max_subcalls=100)
    assert [one.value for one in await again.subcalls(numbers, form)] == [one.value for one in made]
    assert again.engine.count == whole.engine.count - replied
    assert (again.budget.usage, again.budget.subcalls) == (whole.budget.usage, whole.budget.subcalls)


async def test_items_of_a_frame_that_is_known_from_before_are_known_to_the_frames_after_it() -> None:
    whole = Run(shouting)
    await whole.subcalls(["a", "b", "c"], FRAME)
    again = Run(shouting, Past(whole.recorder.events, [0.0] * len(whole.recorder.events)))
    await again.subcalls(["a", "b", "c"], FRAME)
    await again.subcalls(["c", "d"], FRAME)
    assert again.engine.count == 1
    assert again.budget.remembered == 1


async def test_a_cell_that_asks_more_than_it_may_waits_before_anything_is_paid() -> None:
    run = Run(lambda _: "x", ask_before=3)
    await run("query", ["a", "b"])
    with pytest.raises(FanOutHeld, match="the next step asks 4 sub-calls, and over 3 it waits for your word"):
        await run("query", ["c", "d"])
    assert len(run.done) == run.budget.subcalls == 2
    run.subcalls.begin_turn()
    await run("map", ["a", "b", "c"], instruction="shorten")
    with pytest.raises(FanOutHeld, match="asks 4 sub-calls"):
        run.subcalls.plan(1)


async def test_the_first_round_of_a_reduce_is_counted() -> None:
    run = Run(lambda _: "x", ask_before=1)
    texts = ["word " * 20_000] * 3
    with pytest.raises(FanOutHeld, match=r"asks \d+ sub-calls, and over 1"):
        await run("reduce", texts, instruction="join")
    assert run.budget.subcalls == 0


async def test_the_frames_of_a_call_are_counted_with_the_first() -> None:
    run = Run(lambda _: "x", ask_before=3)
    form = CallForm(CallKind.QUERY, {}, behind=0, ahead=2)
    with pytest.raises(FanOutHeld, match="asks 4 sub-calls"):
        await run.subcalls(["a", "b"], form)
    run.subcalls.begin_turn()
    assert len(await run.subcalls(["c", "d", "e", "f"], CallForm(CallKind.QUERY, {}, behind=2))) == 4
