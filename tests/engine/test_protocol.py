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
        ({"suffix": "x", "tools": []}, "does not serve: suffix, tools"),
        ({"stream": "yes"}, "stream is 'yes', but must be true or false"),
        ({"stream_options": {"include_usage": True}}, "goes with stream only"),
        ({"n": 0}, "n is 0"),
        ({"n": 65}, "n is 65, but must be at most 64"),
        ({"stop": ["x", ""]}, "stop must be a text"),
        ({"stop": 1}, "stop must be a text"),
        ({"logprobs": 3}, "must be true or false"),
        ({"top_logprobs": 3}, "goes with logprobs: true"),
        ({"logprobs": True, "top_logprobs": 21}, "at most 20"),
        ({"cache_salt": 1}, "cache_salt is a int"),
        ({"priority": 0.5}, "whole number"),
        ({"deadline_s": 0}, "deadline_s is 0"),
        ({"public_messages": 1}, "public_messages is 1, but of 1 messages the last is somebody's"),
        ({"close_at_limit": True}, "goes with a grammar, regex or json"),
        ({"close_at_limit": True, "structured_outputs": {"choice": ["a"]}}, "goes with a grammar, regex or json"),
        ({"close_at_limit": True, "logprobs": True, "structured_outputs": {"regex": "a"}}, "without logprobs"),
        ({"ignore_eos": True, "structured_outputs": {"regex": "a"}}, "exclude each other"),
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


def test_everything_that_a_request_may_say_of_its_reply() -> None:
    said = {"n": 2, "stop": "x", "stream": True, "cache_salt": "run 1", "priority": -1, "deadline_s": 2}
    ask = parse_chat(HELLO | said)
    assert (ask.n, ask.stops, ask.stream, ask.scope, ask.priority, ask.deadline_s) == (2, ("x",), True, "run 1", -1, 2)
    rules = {"messages": [{"role": "system", "content": "rules"}, *HELLO["messages"]], "public_messages": 1}
    assert parse_chat(HELLO | rules).public_messages == 1
    assert parse_chat(HELLO | {"logprobs": True, "top_logprobs": 3}).top_logprobs == 3
    assert parse_chat(HELLO | {"logprobs": False}).top_logprobs is None
    assert parse_text({"prompt": "a", "logprobs": 2}).top_logprobs == 2


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
