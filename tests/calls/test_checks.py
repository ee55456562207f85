"""What a caller asks for is checked before anything is computed, and told in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_local.calls import form_of, judge_of, reader_of
from rlm_local.calls.caller import FreeCaller
from rlm_local.calls.checks import MAX_SCHEMA_CHARS
from rlm_local.ports import BadCall
from rlm_local.testing import AnsweringEngine
from rlm_local.types import CallKind


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"choices": "yes"}, "choices must be a list of texts"),
        ({"choices": ["yes"]}, "there are 1 choices, but there must be 2 to 100"),
        ({"choices": ["a", 1]}, "choices must be a list of texts"),
        ({"choices": [str(n) for n in range(101)]}, "there are 101 choices"),
        ({"choices": ["a", ""]}, "each must have 1 to 200 characters"),
        ({"choices": ["a", "b" * 201]}, "each must have 1 to 200 characters"),
        ({"choices": ["a", " b"]}, "no blanks around it"),
        ({"choices": ["Yes", "yes"]}, "'Yes' and 'yes', which are one"),
        ({"choices": ["a", "a"]}, "'a' and 'a', which are one"),  # one object: Python has each letter once
        ({"regex": ""}, "regex is empty"),
        ({"regex": "("}, "does not compile"),
        ({"regex": "a" * 1_001}, "1,001 characters, but may have 1,000"),
        ({"regex": "(" * 500 + ")" * 500}, "does not compile"),
        ({"regex": r"((a{1,100}){100}){100}"}, "up to 1,000,000 together"),
        ({"schema": "integer"}, "must be an object such as"),
        ({"schema": {"type": "int"}}, "has the type 'int'"),
        ({"schema": {"pattern": "a"}}, "uses 'pattern', which is not served; use additionalProperties"),
        ({"schema": {"enum": ["x" * MAX_SCHEMA_CHARS]}}, "may have 20,000; ask for less"),
        ({"schema": deep(17)}, "17 levels deep"),
        ({"max_tokens": 0}, "must be a whole number from 1 to 512"),
        ({"max_tokens": True}, "must be a whole number"),
        ({"max_tokens": 513}, "max_tokens is 513"),
        ({"choices": ["a", "b"], "regex": "a"}, "choices and regex exclude each other"),
        ({"temperature": 1}, "no argument 'temperature'; use choices, schema, regex, max_tokens"),
    ],
)
def test_a_form_that_cannot_be_is_told_with_value_bound_and_repair(args: dict[str, Any], said: str) -> None:
    with pytest.raises(BadCall) as caught:
        form_of(args, reply_tokens=512)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", [r"\d{4}-\d{2}-\d{2}", r"[A-Z]{2,3}(, [A-Z]{2,3})*", "(yes|no)", r"[^\n]{1,200}"])
def test_an_honest_regular_expression_is_taken(pattern: str) -> None:
    assert form_of({"regex": pattern}, reply_tokens=512).regex == pattern


AB = {"a": "the first", "b": ""}


@pytest.mark.parametrize(
    ("kind", "args", "said"),
    [
        ("classify", {}, "labels must be a list of texts, or text: description, not None"),
        ("classify", {"labels": []}, "there are 0 labels"),
        ("classify", {"labels": ["a", "A"]}, "which are one"),
        ("classify", {"labels": {"a": 1, "b": ""}}, "the description of 'a' must be a text"),
        ("classify", {"labels": AB, "examples": "a"}, "examples must be a list of pairs"),
        ("classify", {"labels": AB, "examples": [["x", "c"]]}, "example 1 has the label 'c', which is none of a, b"),
        ("classify", {"labels": AB, "examples": [["x"]]}, "or a pair of them"),
        ("classify", {"labels": AB, "examples": [["x", "a"]] * 201}, "201 examples, but at most 200"),
        ("classify", {"labels": AB, "examples": [["x" * 2_001, "a"]]}, "2,001 characters, but may have 2,000"),
        ("classify", {"labels": AB, "examples": [["x" * 1_900, "a"]] * 20}, "but the window holds 8,192"),
        ("classify", {"labels": AB, "long": "cut"}, "must be 'split' or 'refuse'"),
        ("classify", {"labels": AB, "instruction": 3}, "instruction must be a text"),
        ("filter", {}, "condition must be a text, not None"),
        ("filter", {"condition": " "}, "condition is empty"),
        ("filter", {"condition": "x", "sure": 1.5}, "sure is 1.5, but must be a number from 0 to 1"),
        ("filter", {"condition": "x", "sure": True}, "sure is True"),
        ("extract", {}, "the schema is None"),
        ("extract", {"schema": {"type": "object"}, "labels": []}, "no argument 'labels'"),
        ("map", {}, "instruction must be a text, not None"),
        ("map", {"instruction": "x" * 20_001}, "20,001 characters, but may have 20,000"),
        ("map", {"instruction": "sum", "max_tokens": 10_000}, "max_tokens is 10000"),
    ],
)
async def test_a_call_that_cannot_be_is_told_before_any_text_is_read(
    kind: str, args: dict[str, Any], said: str
) -> None:
    engine = AnsweringEngine(lambda _: AssertionError("nothing may be asked"), window_tokens=8_192)
    caller = FreeCaller(engine, reply_tokens=512)
    make = judge_of if kind in ("classify", "filter") else reader_of
    with pytest.raises(BadCall) as caught:
        await make(caller, CallKind(kind), args)
    assert said in str(caught.value)
    assert engine.count == 0
