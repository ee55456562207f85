from __future__ import annotations

from typing import Any

import pytest

from rlm_local.engine.llama.mask import Constraint, Dialect
from rlm_local.engine.llama.protocol import parse_body, parse_chat, parse_text, parse_tokenize
from rlm_local.errors import EngineRefused
from rlm_local.types import Message, Role

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def test_a_bare_request_gets_openais_defaults() -> None:
    ask = parse_chat(HELLO)
    assert ask.prompt == (Message(Role.USER, "hello"),)
    assert (ask.max_tokens, ask.constraint) == (None, None)
    assert (ask.settings.temperature, ask.settings.top_p, ask.settings.top_k) == (1.0, 1.0, 0)


@pytest.mark.parametrize(
    ("given", "constraint"),
    [
        ({"grammar": "start: /a/"}, Constraint(Dialect.GRAMMAR, "start: /a/")),
        ({"regex": "a+"}, Constraint(Dialect.REGEX, "a+")),
        ({"json": {"type": "object"}}, Constraint(Dialect.JSON, '{"type": "object"}')),
        ({"json": '{"type": "object"}'}, Constraint(Dialect.JSON, '{"type": "object"}')),
        ({"choice": ["a", "b"]}, Constraint(Dialect.CHOICE, '["a", "b"]')),
    ],
)
def test_structured_outputs(given: dict[str, Any], constraint: Constraint) -> None:
    assert parse_chat(HELLO | {"structured_outputs": given}).constraint == constraint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stop": ["x"], "logprobs": True}, "does not serve: logprobs, stop"),
        ({"stream": True}, "stream is not served"),
        ({"n": 2}, "n is 2"),
        ({"messages": []}, "at least one message"),
        ({"messages": "hi"}, "must be a list"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "'tool', but must be one of system, user, assistant"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "must be one of"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, r"messages\[0\].content is a list"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "fields .* name"),
        ({"messages": ["x"]}, r"messages\[0\] must be an object"),
        ({"max_tokens": 0}, "max_tokens is 0, but must be at least 1"),
        ({"max_tokens": True}, "must be a whole number"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "send one of them"),
        ({"temperature": -1}, "between 0.0 and 100.0"),
        ({"temperature": "hot"}, "must be a number"),
        ({"temperature": float("nan")}, "must be a number"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_k": 1.5}, "whole number"),
        ({"seed": -1}, "at least 0"),
        ({"structured_outputs": {}}, "one of grammar, regex, json, choice"),
        ({"structured_outputs": {"grammar": "a", "regex": "b"}}, "one of grammar"),
        ({"structured_outputs": {"json_object": True}}, "json_object is not served"),
        ({"structured_outputs": {"grammar": ""}}, "not empty"),
        ({"structured_outputs": {"choice": []}}, "list of texts"),
        ({"structured_outputs": {"choice": ["a", ""]}}, "list of texts"),
        ({"structured_outputs": "x"}, "must be an object"),
    ],
)
def test_what_is_not_served_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineRefused, match=said):
        parse_chat(HELLO | change)


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(EngineRefused, match="the body is"):
        parse_body(raw)


def test_a_text_prompt_is_a_string_with_something_in_it() -> None:
    assert parse_text({"prompt": "once"}).prompt == "once"
    for prompt in ("", ["once"], None):
        with pytest.raises(EngineRefused, match="prompt is"):
            parse_text({"prompt": prompt})


def test_tokenize_counts_the_text_as_it_stands() -> None:
    assert parse_tokenize({"model": "m", "prompt": "x", "add_special_tokens": False}) == "x"
    with pytest.raises(EngineRefused, match="add_special_tokens"):
        parse_tokenize({"prompt": "x", "add_special_tokens": True})
