"""The requests that the service takes: OpenAI's shape, vLLM's names for what OpenAI has not.

A field that is not served is refused by its name, never ignored: an ignored `suffix` is a wrong answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from rlm_local.engine.llama.mask import Constraint, Dialect
from rlm_local.engine.llama.sampler import Settings
from rlm_local.errors import EngineRefused
from rlm_local.types import Message, Role

Body: TypeAlias = Mapping[str, Any]

_SAMPLING = frozenset({"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"})
_COMMON = _SAMPLING | {"model", "max_tokens", "structured_outputs", "stream", "stream_options", "n", "stop", "logprobs"}
_COMMON |= {"cache_salt", "priority", "depth", "deadline_s", "ignore_eos", "close_at_limit", "request_id"}
_CHAT = _COMMON | {"messages", "max_completion_tokens", "top_logprobs", "public_messages"}
_TEXT = _COMMON | {"prompt"}
_DETOKENIZE = frozenset({"model", "tokens"})
_CANCEL = frozenset({"request_id"})
_FLUSH = frozenset({"cache_salt"})
MAX_N = 64
MAX_LOGPROBS = 20
_TOKENIZE = frozenset({"model", "prompt", "add_special_tokens"})


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a reply, checked but not yet measured."""

    prompt: tuple[Message, ...] | str  # a str is continued as it stands, without the chat template
    max_tokens: int | None  # None: whatever the window leaves
    settings: Settings
    constraint: Constraint | None
    n: int = 1  # replies; the second has the next seed, and so on
    stops: tuple[str, ...] = ()
    stream: bool = False
    stream_usage: bool = False  # a last event with the usage
    top_logprobs: int | None = None  # None: no log-probabilities
    scope: str = ""  # `cache_salt`: requests of different scopes share nothing but
    public_messages: int = 0  # so many first messages, which hold nobody's words; ours alone
    priority: int = 0  # smaller goes first
    depth: int = 0  # levels below the root of a run; among requests of a scope the deepest goes first
    deadline_s: float | None = None  # from when the request was read
    ignore_ends: bool = False
    request_id: str = ""  # by which /cancel knows it
    close_at_limit: bool = False  # ours alone: max_tokens ends a sentence of the grammar, and does not cut it


def parse_body(raw: bytes) -> Body:
    """Return a request's JSON object. Raises EngineRefused."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise EngineRefused(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise EngineRefused(f"the body is a JSON {type(body).__name__}, but must be an object")
    return body


def parse_chat(body: Body) -> Ask:
    """Read the body of /v1/chat/completions. Raises EngineRefused."""
    _only(body, _CHAT)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise EngineRefused("messages must be a list with at least one message")
    if "max_tokens" in body and "max_completion_tokens" in body:
        raise EngineRefused("max_tokens and max_completion_tokens are one thing; send one of them")
    limit = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    public = _integer(body, "public_messages", 0, low=0) or 0
    if public >= len(messages):
        raise EngineRefused(f"public_messages is {public}, but of {len(messages)} messages the last is somebody's")
    return replace(_ask(body, tuple(_message(i, m) for i, m in enumerate(messages)), limit), public_messages=public)


def parse_text(body: Body) -> Ask:
    """Read the body of /v1/completions. Raises EngineRefused."""
    _only(body, _TEXT)
    prompt = _string(body, "prompt")
    if not prompt:
        raise EngineRefused("prompt is empty")
    return _ask(body, prompt, "max_tokens")


def parse_tokenize(body: Body) -> str:
    """Return the text of a /tokenize request. Raises EngineRefused."""
    _only(body, _TOKENIZE)
    if body.get("add_special_tokens", False) is not False:
        raise EngineRefused("add_special_tokens is served as false only: the text is counted as it stands")
    return _string(body, "prompt")


def _ask(body: Body, prompt: tuple[Message, ...] | str, limit: str) -> Ask:
    constraint = _constraint(body.get("structured_outputs"))
    ignore_ends = _flag(body, "ignore_eos")
    if ignore_ends and constraint is not None:
        raise EngineRefused("ignore_eos and structured_outputs exclude each other: a grammar says where it ends")
    stream = _flag(body, "stream")
    n = _integer(body, "n", 1, low=1) or 1
    if n > MAX_N:
        raise EngineRefused(f"n is {n}, but must be at most {MAX_N}")
    deadline, top_logprobs = body.get("deadline_s"), _top_logprobs(body)
    close_at_limit = _flag(body, "close_at_limit")
    if close_at_limit and (constraint is None or constraint.dialect is Dialect.CHOICE or top_logprobs is not None):
        raise EngineRefused("close_at_limit goes with a grammar, regex or json, and without logprobs")
    return Ask(
        prompt=prompt,
        max_tokens=_integer(body, limit, None, low=1),
        settings=Settings(
            temperature=_number(body, "temperature", 1.0, low=0.0, high=100.0),
            top_p=_number(body, "top_p", 1.0, low=1e-6, high=1.0),
            # vLLM writes "all tokens" as 0 or -1
            top_k=max(0, _integer(body, "top_k", 0, low=-1) or 0),
            min_p=_number(body, "min_p", 0.0, low=0.0, high=1.0),
            repetition_penalty=_number(body, "repetition_penalty", 1.0, low=0.01, high=100.0),
            seed=_integer(body, "seed", None, low=0),
        ),
        constraint=constraint,
        n=n,
        stops=_stops(body.get("stop")),
        stream=stream,
        stream_usage=_stream_usage(body.get("stream_options"), stream=stream),
        top_logprobs=top_logprobs,
        scope=_string(body, "cache_salt") if body.get("cache_salt") is not None else "",
        priority=_integer(body, "priority", 0, low=-(1 << 31)) or 0,
        depth=_integer(body, "depth", 0, low=0) or 0,
        request_id=_string(body, "request_id") if body.get("request_id") is not None else "",
        deadline_s=None if deadline is None else _number(body, "deadline_s", 0.0, low=1e-3, high=1e6),
        ignore_ends=ignore_ends,
        close_at_limit=close_at_limit,
    )


def _stops(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    stops = given if isinstance(given, list) else [given]
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise EngineRefused("stop must be a text, or a list of texts, that are not empty")
    return tuple(stops)


def _stream_usage(given: object, *, stream: bool) -> bool:
    if given is None:
        return False
    if not stream or not isinstance(given, dict) or set(given) - {"include_usage"}:
        raise EngineRefused("stream_options must be an object with include_usage, and goes with stream only")
    return _flag(given, "include_usage")


def _top_logprobs(body: Body) -> int | None:
    """Chat says logprobs: true and top_logprobs: 3; text completion says logprobs: 3."""
    if "prompt" in body:
        top = _integer(body, "logprobs", None, low=0)
    elif _flag(body, "logprobs"):
        top = _integer(body, "top_logprobs", 0, low=0)
    elif body.get("top_logprobs"):
        raise EngineRefused("top_logprobs goes with logprobs: true only")
    else:
        top = None
    if top is not None and top > MAX_LOGPROBS:
        raise EngineRefused(f"{top} log-probabilities a token are asked for, but at most {MAX_LOGPROBS} are served")
    return top


def _message(index: int, message: object) -> Message:
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise EngineRefused(f"{where} must be an object with role and content")
    if unknown := sorted(set(message) - {"role", "content"}):
        raise EngineRefused(f"{where} has fields that this engine does not serve: {', '.join(unknown)}")
    role, content = message.get("role"), message.get("content")
    if role not in [r.value for r in Role]:
        raise EngineRefused(f"{where}.role is {role!r}, but must be one of {', '.join(Role)}")
    if not isinstance(content, str):
        raise EngineRefused(f"{where}.content is a {type(content).__name__}, but must be a string")
    return Message(Role(role), content)


def _constraint(given: object) -> Constraint | None:
    if given is None:
        return None
    if not isinstance(given, dict) or len(given) != 1:
        raise EngineRefused(f"structured_outputs must be an object with one of {', '.join(Dialect)}")
    ((name, source),) = given.items()
    if name not in [d.value for d in Dialect]:
        raise EngineRefused(f"structured_outputs.{name} is not served; use one of {', '.join(Dialect)}")
    dialect = Dialect(name)
    if dialect is Dialect.JSON and isinstance(source, dict | bool):
        source = json.dumps(source)
    if dialect is Dialect.CHOICE:
        if not (isinstance(source, list) and source and all(isinstance(c, str) and c for c in source)):
            raise EngineRefused("structured_outputs.choice must be a list of texts that are not empty")
        source = json.dumps(source)
    if not isinstance(source, str) or not source:
        raise EngineRefused(f"structured_outputs.{name} must be a string that is not empty")
    return Constraint(dialect, source)


def parse_detokenize(body: Body) -> list[int]:
    """Return the tokens of a /detokenize request. Raises EngineRefused."""
    _only(body, _DETOKENIZE)
    tokens = body.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(t, int) and not isinstance(t, bool) for t in tokens):
        raise EngineRefused("tokens must be a list of whole numbers")
    return tokens


def parse_cancel(body: Body) -> str:
    """Return the id of the request that a /cancel request is to end. Raises EngineRefused."""
    _only(body, _CANCEL)
    return _string(body, "request_id")


def parse_flush(body: Body) -> str | None:
    """Return the scope that a /reset_prefix_cache request names; None for all. Raises EngineRefused."""
    _only(body, _FLUSH)
    return None if body.get("cache_salt") is None else _string(body, "cache_salt")


def _only(body: Body, served: frozenset[str]) -> None:
    if unknown := sorted(set(body) - served):
        raise EngineRefused(f"fields that this engine does not serve: {', '.join(unknown)}")


def _string(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise EngineRefused(f"{name} is a {type(value).__name__}, but must be a string")
    return value


def _flag(body: Body, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise EngineRefused(f"{name} is {value!r}, but must be true or false")
    return bool(value)


def _number(body: Body, name: str, default: float, *, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EngineRefused(f"{name} is {value!r}, but must be a number")
    if not low <= value <= high:
        raise EngineRefused(f"{name} is {value}, but must be between {low} and {high}")
    return float(value)


def _integer(body: Body, name: str, default: int | None, *, low: int) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise EngineRefused(f"{name} is {value!r}, but must be a whole number")
    if value < low:
        raise EngineRefused(f"{name} is {value}, but must be at least {low}")
    return value
