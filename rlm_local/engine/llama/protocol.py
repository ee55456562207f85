"""The requests that the service takes: OpenAI's shape, vLLM's names for what OpenAI has not.

A field that is not served is refused by its name, never ignored: an ignored `stop` or `n` is a wrong answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from rlm_local.engine.llama.mask import Constraint, Dialect
from rlm_local.engine.llama.sampler import Settings
from rlm_local.errors import EngineRefused
from rlm_local.types import Message, Role

Body: TypeAlias = Mapping[str, Any]

_SAMPLING = frozenset({"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"})
_COMMON = _SAMPLING | {"model", "max_tokens", "structured_outputs", "stream", "n"}
_CHAT = _COMMON | {"messages", "max_completion_tokens"}
_TEXT = _COMMON | {"prompt"}
_TOKENIZE = frozenset({"model", "prompt", "add_special_tokens"})


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a reply, checked but not yet measured."""

    prompt: tuple[Message, ...] | str  # a str is continued as it stands, without the chat template
    max_tokens: int | None  # None: whatever the window leaves
    settings: Settings
    constraint: Constraint | None


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
    return _ask(body, tuple(_message(i, m) for i, m in enumerate(messages)), limit)


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
    if body.get("stream") not in (None, False):
        raise EngineRefused("stream is not served by this engine; leave it out or send false")
    if body.get("n") not in (None, 1):
        raise EngineRefused(f"n is {body['n']!r}, but this engine serves 1 reply a request")
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
        constraint=_constraint(body.get("structured_outputs")),
    )


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


def _only(body: Body, served: frozenset[str]) -> None:
    if unknown := sorted(set(body) - served):
        raise EngineRefused(f"fields that this engine does not serve: {', '.join(unknown)}")


def _string(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise EngineRefused(f"{name} is a {type(value).__name__}, but must be a string")
    return value


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
