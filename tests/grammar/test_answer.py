"""A typed answer: what its grammar accepts, what the host keeps, and which schemas are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlm_local.errors import ConfigError
from rlm_local.grammar import AnswerSchema, TurnState, decode_turn, refusal, turn_grammar
from rlm_local.types import Final, GrammarMode, ReplyStop

pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "ok": {"type": "boolean"}},
    "required": ["age"],
    "additionalProperties": False,
}
CASES = [
    # schema, literal, accepted by the grammar, value kept by the host
    ({"type": "string"}, '"a"', True, True),
    ({"type": "string"}, "1", False, False),
    ({"type": "integer"}, "-12", True, True),
    ({"type": "integer"}, "1.5", False, False),
    ({"type": "number"}, "1.5e3", True, True),
    ({"type": "boolean"}, "True", True, True),
    ({"type": "boolean"}, "1", False, False),
    ({"type": ["string", "null"]}, "None", True, True),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, "[1, 2]", True, True),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, "[]", False, False),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, "[1, 2, 3]", False, False),
    ({"type": "array"}, '[1, "a", [True]]', True, True),
    (PERSON, '{"age": 3}', True, True),
    (PERSON, '{"name": "x", "age": 3, "ok": False}', True, True),
    (PERSON, '{"age": 3, "ok": True}', True, True),
    (PERSON, '{"name": "x"}', False, False),
    (PERSON, '{"age": 3, "more": 1}', False, False),
    ({"type": "object"}, '{"a": [1]}', True, True),
    ({"enum": ["a", 1]}, "'a'", True, True),
    ({"enum": ["a", 1]}, '"b"', False, False),
    ({"const": True}, "True", True, True),
    ({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]}, '"a"', True, True),
    ({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]}, '"ab"', True, False),  # the host's
    ({"type": "integer", "minimum": 3}, "2", True, False),
    (True, '{"a": 1}', True, True),
]


@pytest.mark.parametrize("mode", [GrammarMode.SKELETON, GrammarMode.PYTHON])
@pytest.mark.parametrize(("schema", "literal", "accepted", "kept"), CASES)
def test_a_literal_is_of_the_answers_type(
    schema: Any, literal: str, accepted: bool, kept: bool, mode: GrammarMode
) -> None:
    answer = AnswerSchema(schema)
    text = f"FINAL({literal})"
    grammar = turn_grammar(TurnState.LAST, "lark", mode, answer=answer)
    assert grammar is not None
    assert (refusal(grammar, text.encode()) is None) is accepted
    final = decode_turn(text, ReplyStop.COMPLETE)
    assert isinstance(final, Final)
    assert (answer.mismatch(final.value) == "") is kept


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([], "the answer schema is \\[\\], but must be an object"),
        ({"type": "text"}, "has the type 'text', but must have one of string"),
        ({"pattern": "a"}, "uses 'pattern', which is not served"),
        ({"properties": {"a": {"$ref": "#"}}}, r"properties\.a uses '\$ref'"),
        ({"maxItems": 10**9}, "maxItems is 1000000000"),
        ({"enum": []}, "enum must be a list that is not empty"),
        ({"required": ["a"]}, "required a list of their names"),
        ({"minItems": 5, "maxItems": 2}, "minItems is 5, maxItems is 2, and nothing keeps both"),
        ({"items": {"minLength": 9, "maxLength": 2}}, r"items: minLength is 9, maxLength is 2, and nothing keeps both"),
        ({"minimum": 5, "maximum": 1}, "minimum is 5, maximum is 1, and nothing keeps both"),
        ({"type": "integer", "minimum": 0.5, "maximum": 0.6}, "minimum is 0.5, maximum is 0.6"),
        ({"minimum": float("nan")}, "minimum is nan, but must be a finite number"),
        ({"const": float("inf")}, "names a value that is no number, infinite, or half of a character"),
        ({"enum": ["\ud800"]}, "names a value that is no number, infinite, or half of a character"),
    ],
)
def test_a_schema_that_is_not_served_is_named(schema: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AnswerSchema(schema)


def test_a_deep_schema_is_refused_and_not_followed() -> None:
    schema: dict[str, Any] = {}
    for _ in range(50):
        schema = {"items": schema}
    with pytest.raises(ConfigError, match="levels deep"):
        AnswerSchema(json.loads(json.dumps(schema)))
