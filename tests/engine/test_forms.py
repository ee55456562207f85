"""What a typed sub-call asks for, held by a real engine: choices with their probabilities, regex, JSON schema."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from rlm_local.calls import FreeCaller, TypedCalls, form_of
from rlm_local.engine.launch import LlamaEngine
from rlm_local.types import CallForm, CallKind, Completion, JsonValue, Message, Reply, Role, Sampling

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]


async def ask(engine: LlamaEngine, prompt: str, **args: JsonValue) -> tuple[Reply, JsonValue]:
    form = form_of(args, reply_tokens=64)
    messages = (Message(Role.USER, form.told(prompt)),)
    reply = await engine.complete(form.completion(messages, can_close=engine.info.can_close, sampling=Sampling()))
    return reply, form.read(reply)


async def test_choices_come_with_the_probability_of_each_in_the_order_asked_for(smollm: LlamaEngine) -> None:
    reply, value = await ask(smollm, "Is the sky blue? Answer yes or no.", choices=["no", "yes", "perhaps not"])
    assert len(reply.logprobs) == 3
    assert value == ["no", "yes", "perhaps not"][max(range(3), key=reply.logprobs.__getitem__)]
    turned, same = await ask(smollm, "Is the sky blue? Answer yes or no.", choices=["perhaps not", "yes", "no"])
    assert same == value
    assert turned.logprobs[::-1] == pytest.approx(reply.logprobs, abs=0.05)


async def test_a_regex_and_a_schema_are_kept(smollm: LlamaEngine) -> None:
    _, year = await ask(smollm, "When did it happen?", regex=r"(19|20)\d\d")
    assert re.fullmatch(r"(19|20)\d\d", str(year))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 150}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    _, person = await ask(smollm, "Ann is 30 years old. Who is it?", schema=schema)
    assert isinstance(person, dict)
    assert set(person) == {"name", "age"}


@pytest.mark.parametrize(
    "args",
    [
        {"regex": "((((a{1,10}b?){1,10}c?){1,5}d?){1,2})*"},
        {"regex": "(" + "|".join(f"word{n}" for n in range(120)) + ")"},
        {"schema": {"enum": [f"value {n}" for n in range(150)]}},
        {"choices": [f"the {n}. of a hundred labels that begin alike" for n in range(100)]},
    ],
)
async def test_the_largest_forms_that_are_taken_are_served(smollm: LlamaEngine, args: dict[str, JsonValue]) -> None:
    form = form_of(args, reply_tokens=64)
    messages = (Message(Role.USER, form.told("Say one.")),)
    reply = await smollm.complete(form.completion(messages, can_close=True, sampling=Sampling()))
    assert reply.text


async def test_a_whole_call_goes_through_a_real_engine(smollm: LlamaEngine) -> None:
    typed = TypedCalls(FreeCaller(smollm, reply_tokens=48))
    items = [f"item {number}" for number in range(20)]
    form = CallForm(CallKind.CLASSIFY, {"labels": {"even": "an even number", "odd": "an odd one"}, "passes": 2})
    made = await typed(items, form)
    assert [one.prompt for one in made] == items
    assert all(isinstance(one.value, dict) and one.value["label"] in ("even", "odd") for one in made)
    number = CallForm(CallKind.EXTRACT, {"schema": {"type": "integer", "minimum": 0, "maximum": 99}})
    values = [one.result for one in await typed(items[:4], number)]
    assert all(isinstance(value, int) for value in values)
    assert json.dumps(values)


async def test_what_items_have_in_common_is_computed_once(smollm: LlamaEngine) -> None:
    caller = FreeCaller(smollm, reply_tokens=8)
    examples: JsonValue = [[f"the text of example {n}", "b" if n % 2 else "a"] for n in range(8)]
    form = CallForm(CallKind.CLASSIFY, {"labels": ["a", "b"], "examples": examples})
    made = await TypedCalls(caller)([f"text {number}" for number in range(16)], form)
    usage = made[-1].usage
    assert usage.cached_tokens > 0.8 * usage.prompt_tokens


async def test_a_completion_with_nothing_to_hold_it_is_as_before(smollm: LlamaEngine) -> None:
    reply = await smollm.complete(Completion((Message(Role.USER, "Hello"),), max_tokens=4))
    assert reply.logprobs == ()
