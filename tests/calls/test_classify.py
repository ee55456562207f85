"""Every item scored once, over a prefix that all share."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rlm_local.calls import TypedCalls, classify_all, judge_of
from rlm_local.calls.caller import FreeCaller
from rlm_local.calls.classify import SILENT
from rlm_local.calls.prior import Prior, normalised
from rlm_local.errors import EngineRefused
from rlm_local.testing import AnsweringEngine
from rlm_local.types import CallForm, CallKind, Completion, JsonValue, Reply, ReplyStop, Role, SubCall, Usage

LABELS: JsonValue = {"animal": "a living thing", "tool": ""}


def gold(text: str) -> str:
    return "animal" if "cat" in text else "tool"


def by_gold(completion: Completion) -> str:
    return gold(completion.messages[-1].content)


async def classify(engine: AnsweringEngine, items: list[str], **args: JsonValue) -> list[SubCall]:
    form = CallForm(CallKind.CLASSIFY, {"labels": LABELS} | args)
    return await TypedCalls(FreeCaller(engine, reply_tokens=64))(items, form)


def labels(made: list[SubCall]) -> list[JsonValue]:
    return [one.value["label"] if isinstance(one.value, dict) else None for one in made]


async def test_each_item_gets_a_label_and_a_confidence_in_order() -> None:
    engine = AnsweringEngine(by_gold)
    made = await classify(engine, ["a cat", "a saw", "cat"])
    assert labels(made) == ["animal", "tool", "animal"]
    assert all(isinstance(one.value, dict) and 0.9 < one.value["confidence"] <= 1 for one in made)  # type: ignore[operator]
    assert engine.count == 3 + len(SILENT)


async def test_what_comes_before_an_item_is_the_same_for_all_of_them() -> None:
    heads = set()

    def watch(completion: Completion) -> str:
        heads.add(completion.messages[:-1])
        return by_gold(completion)

    examples: JsonValue = [["my cat", "animal"], {"item": "a saw", "label": "tool"}]
    await classify(AnsweringEngine(watch), ["a cat", "b"], examples=examples, instruction="By kind.")
    head = max(heads, key=len)  # the others are of halves of the examples, scored for themselves
    assert {len(one) for one in heads} == {3, 5} or len(heads) == 2
    assert [message.role for message in head] == [Role.SYSTEM, *[Role.USER, Role.ASSISTANT] * 2]
    assert [message.content for message in head[1:]] == ["my cat", "animal", "a saw", "tool"]
    assert "- animal: a living thing\n- tool" in head[0].content
    assert "By kind." in head[0].content


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 3_000])
async def test_every_item_comes_back_once_and_in_order(count: int) -> None:
    engine = AnsweringEngine(by_gold)
    items = [f"cat {number}" if number % 3 else f"saw {number}" for number in range(count)]
    made = await classify(engine, items)
    assert [one.prompt for one in made] == items
    assert labels(made) == [gold(item) for item in items]
    assert engine.most_at_once <= 64 + len(SILENT)


async def test_no_items_are_no_labels() -> None:
    engine = AnsweringEngine(by_gold)
    assert await classify(engine, []) == []
    assert await classify(engine, [], examples=[["my cat", "animal"], ["my saw", "tool"]]) == []
    assert engine.count == 0


async def test_calls_side_by_side_learn_once() -> None:
    engine = AnsweringEngine(by_gold)
    typed = TypedCalls(FreeCaller(engine, reply_tokens=64))
    form = CallForm(CallKind.CLASSIFY, {"labels": LABELS, "passes": 2})
    items = [f"cat {number}" if number % 3 else f"saw {number}" for number in range(30)]
    both = await asyncio.gather(typed(items, form), typed(items[::-1], form))
    assert [labels(made) for made in both] == [[gold(item) for item in order] for order in (items, items[::-1])]
    assert engine.count == 2 * len(SILENT) + 60 + 30  # of the second pass anew, for it has another prefix


async def test_an_item_that_is_refused_keeps_its_place_and_says_why() -> None:
    def refuse(completion: Completion) -> str | Exception:
        return EngineRefused("not this") if "bad" in completion.messages[-1].content else by_gold(completion)

    made = await classify(AnsweringEngine(refuse), ["a cat", "bad", "a saw"])
    assert labels(made) == ["animal", None, "tool"]
    assert made[1].refused == "not this"


async def test_an_engine_that_scores_nothing_still_gives_labels() -> None:
    def chosen(completion: Completion) -> Reply:
        return Reply(by_gold(completion), ReplyStop.COMPLETE, Usage(1, 0, 1))

    assert labels(await classify(AnsweringEngine(chosen), ["a cat", "a saw"])) == ["animal", "tool"]


async def test_a_long_item_is_scored_in_pieces() -> None:
    item = "a cat. " * 5_000
    (one,) = await classify(AnsweringEngine(by_gold, window_tokens=1_024), [item])
    assert labels([one]) == ["animal"]
    (other,) = await classify(AnsweringEngine(by_gold, window_tokens=1_024), [item], long="refuse")
    assert "but one sub-call reads" in other.refused


async def test_the_frames_of_one_call_are_judged_by_one_prior() -> None:
    engine = AnsweringEngine(by_gold)
    typed = TypedCalls(FreeCaller(engine, reply_tokens=64))
    await typed(["a cat"], CallForm(CallKind.CLASSIFY, {"labels": LABELS}, behind=0, ahead=1))
    await typed(["a saw"], CallForm(CallKind.CLASSIFY, {"labels": LABELS}, behind=1, ahead=0))
    assert engine.count == 2 + len(SILENT)


async def test_a_filter_says_of_each_item_whether_it_meets_the_condition() -> None:
    def meets(completion: Completion) -> str:
        assert "Condition: it is about a cat" in completion.messages[0].content
        return "yes" if "cat" in completion.messages[-1].content else "no"

    form = CallForm(CallKind.FILTER, {"condition": "it is about a cat"})
    made = await TypedCalls(FreeCaller(AnsweringEngine(meets), reply_tokens=64))(["cat", "saw", "cats"], form)
    assert [one.value for one in made] == [True, False, True]


async def test_a_filter_can_ask_for_more_than_more_likely_than_not() -> None:
    class Leaning(AnsweringEngine):
        async def complete(self, completion: Completion) -> Reply:
            reply = await super().complete(completion)
            chance = {"cat": 0.9, "kitten": 0.55}.get(completion.messages[-1].content, 0.5)
            return replace(reply, logprobs=(math.log(chance), math.log(1 - chance)))

    async def kept(args: dict[str, JsonValue]) -> list[object]:
        typed = TypedCalls(FreeCaller(Leaning(lambda completion: "yes"), reply_tokens=64))
        form = CallForm(CallKind.FILTER, {"condition": "it is a cat", **args})
        return [one.value for one in await typed(["cat", "kitten"], form)]

    assert await kept({}) == [True, True]
    assert await kept({"sure": 0.6}) == [True, False]
    assert await kept({"sure": 0.95}) == [False, False]


def test_half_of_what_a_model_prefers_on_texts_that_say_nothing_is_taken_out() -> None:
    prior = Prior.fit([], [normalised([2.0, 0.0])] * 4)
    assert prior.posterior(normalised([1.0, 0.0])) == pytest.approx((0.5, 0.5))


def test_what_a_model_prefers_is_learned_from_examples_that_it_gets_wrong() -> None:
    """It leans to the first label by 2: half of the examples of the second are wrong by that."""
    draw = random.Random(3)
    truth = [number % 2 for number in range(60)]
    rows = [normalised([2.0 + draw.gauss(0, 1), 3.0 * one + draw.gauss(0, 1)]) for one in truth]
    prior = Prior.of_examples(rows, truth, labels=2)
    assert prior.bias[1] - prior.bias[0] == pytest.approx(0.5, abs=0.4)  # the middle between -2 and +1
    assert Prior.of_examples([], [], labels=2).posterior(normalised([1.0, 0.0]))[0] > 0.7


async def test_examples_are_scored_without_themselves_and_live_nobody_waits_for_more_items() -> None:
    heads: dict[str, list[tuple[str, ...]]] = {}

    def watch(completion: Completion) -> str:
        *head, item = (message.content for message in completion.messages[1:])
        heads.setdefault(item, []).append(tuple(head[::2]))
        return by_gold(completion)

    examples: JsonValue = [["cat 1", "animal"], ["saw 1", "tool"], ["cat 2", "animal"], ["saw 2", "tool"]]
    judge = await judge_of(
        FreeCaller(AnsweringEngine(watch), reply_tokens=64),
        CallKind.CLASSIFY,
        {"labels": LABELS, "examples": examples},
        live=True,
    )
    forever = asyncio.Event()

    async def one_and_then_silence() -> AsyncIterator[str]:
        yield "a cat"
        await forever.wait()

    results = classify_all(judge, one_and_then_silence())
    assert labels([await asyncio.wait_for(anext(results), 30)]) == ["animal"]
    await results.aclose()
    assert heads == {
        "a cat": [("cat 1", "saw 1", "cat 2", "saw 2")],
        "cat 1": [("cat 2", "saw 2")],
        "saw 1": [("cat 2", "saw 2")],
        "cat 2": [("cat 1", "saw 1")],
        "saw 2": [("cat 1", "saw 1")],
    }


@pytest.mark.parametrize("examples", [[], [["my cat", "animal"], ["my saw", "tool"]]])
async def test_a_second_pass_has_the_surest_items_as_examples(examples: JsonValue) -> None:
    last: list[tuple[str, ...]] = []

    def watch(completion: Completion) -> str:
        last.append(tuple(message.content for message in completion.messages[1:-1]))
        return by_gold(completion)

    engine = AnsweringEngine(watch)
    items = [f"cat {number}" if number % 3 else f"saw {number}" for number in range(100)]
    made = await classify(engine, items, examples=examples, passes=2)
    assert [one.prompt for one in made] == items
    assert labels(made) == [gold(item) for item in items]
    assert all(one.usage.completion_tokens == 2 for one in made)  # both passes are booked
    shown = max(last, key=len)
    assert len(shown) == 2 * (10 + len(list(examples)))  # type: ignore[arg-type]
    assert set(shown[::2]) <= {*items, "my cat", "my saw"}
    assert all(label == gold(item) for item, label in zip(shown[::2], shown[1::2], strict=True))


async def test_a_second_pass_over_items_that_all_look_alike_is_left_out() -> None:
    made = await classify(AnsweringEngine(lambda _: "tool"), ["a", "b"], examples=[["x", "tool"]], passes=2)
    assert labels(made) == ["tool", "tool"]


def test_one_item_alone_is_judged_by_the_silent_texts() -> None:
    item = normalised([3.0, 0.0])
    assert Prior.fit([item], [normalised([1.0, 0.0])] * 4).posterior(item)[0] > 0.7


def test_a_skewed_share_of_labels_is_not_evened_out() -> None:
    """One item in ten has the second label, and the model leans to the first in all of them."""
    draw = random.Random(5)
    truth = [int(number % 10 == 0) for number in range(400)]
    rows = [normalised([5.0 + draw.gauss(0, 1), 5.5 * one + draw.gauss(0, 1)]) for one in truth]
    assert sum(row[1] > row[0] for row in rows) < 40  # by itself it finds fewer than there are
    for count in (150, 400):
        prior = Prior.fit(rows[:count], [])
        said = [int(prior.posterior(row)[1] > 0.5) for row in rows]
        assert sum(a == b for a, b in zip(said, truth, strict=True)) / 400 > 0.95


def test_clouds_that_lie_close_do_not_become_one() -> None:
    """Scores as qwen2.5-coder-1.5b gives them for spam: one in seven, and half of the others look like it too."""
    draw = random.Random(2)
    truth = [int(number % 7 == 0) for number in range(200)]
    rows = [normalised([0.0, draw.gauss(2.3, 1.1) if one else draw.gauss(0.0, 0.8)]) for one in truth]
    assert sum((row[1] > row[0]) == bool(one) for row, one in zip(rows, truth, strict=True)) < 140
    prior = Prior.fit(rows, [normalised([0.0, 0.0])])
    said = [int(prior.posterior(row)[1] > 0.5) for row in rows]
    assert sum(a == b for a, b in zip(said, truth, strict=True)) > 180


def test_the_chances_sum_to_one_for_any_scores() -> None:
    draw = random.Random(1)
    rows = [normalised([draw.gauss(0, 5) for _ in range(5)]) for _ in range(300)]
    for prior in (Prior.fit(rows, []), Prior.fit(rows[:10], rows[:2]), Prior.fit([], rows[:1])):
        assert all(sum(prior.posterior(row)) == pytest.approx(1) for row in rows)


async def test_items_on_which_a_model_errs_are_put_right_by_those_that_share_their_words() -> None:
    """It is wrong on every sixth item, but by less than it is right on the others."""
    items = [f"{'cat' if number % 2 else 'saw'} number {number}" for number in range(120)]

    def scored(completion: Completion) -> Reply:
        item = completion.messages[-1].content
        lean = -0.5 if item.split()[-1].isdigit() and int(item.split()[-1]) % 6 in (1, 4) else 2.0
        sign = 1 if gold(item) == "animal" else -1
        return Reply("tool", ReplyStop.COMPLETE, Usage(1, 0, 1), logprobs=normalised([sign * lean, 0.0]))

    examples: JsonValue = [["my cat", "animal"], ["my saw", "tool"], ["his cat", "animal"], ["his saw", "tool"]]
    engine = AnsweringEngine(scored)
    assert labels(await classify(engine, items, examples=examples)) == [gold(item) for item in items]
    assert engine.count == 120 + 4


async def test_live_nothing_is_learned_from_items() -> None:
    args = {"labels": LABELS, "examples": [["my cat", "animal"], ["my saw", "tool"]]}
    judge = await judge_of(FreeCaller(AnsweringEngine(by_gold), reply_tokens=64), CallKind.CLASSIFY, args, live=True)
    assert judge.waits_for == 0
    together = [one.value async for one in classify_all(judge, ["a cat", "a saw", "cat"])]
    assert [one.value async for one in classify_all(judge, ["cat"])] == together[2:]
