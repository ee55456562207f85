"""What a soak asks of an engine: requests of every kind, whole and malformed, each with how its answer is judged."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Answer: TypeAlias = dict[str, Any]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SCOPES = ("", "tenant-a", "tenant-b", "tenant-c")
HEADS = 8  # beginnings that many requests share
WORDS = ["river", "stone", "paper", "green", "seven", "open", "market", "winter", "letter", "bridge", "quiet"]
LABELS = ["red", "green", "bluish green", "infrared"]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["n"],
    "additionalProperties": False,
}
_HUNG_UP, _DEADLINE, _MALFORMED, _SUPERVISED = 0.12, 0.08, 0.07, 0.1  # shares of all requests


@dataclass(frozen=True, slots=True)
class Shot:
    """One request, and what may come of it."""

    kind: str
    path: str
    body: dict[str, Any] | bytes
    statuses: frozenset[int] = frozenset({200})
    hang_up_s: float | None = None  # the caller goes away after so long
    judge: Callable[[list[str]], str] = lambda _: ""  # texts of all choices -> what is wrong with them, or ""
    supervised: bool = False  # through the client that answers for a dead process too

    @property
    def stream(self) -> bool:
        return isinstance(self.body, dict) and self.body.get("stream") is True

    @property
    def choices(self) -> int:
        n = self.body.get("n", 1) if isinstance(self.body, dict) else 1
        return int(n)


class Mix:
    """An endless row of shots; the same seed gives the same row."""

    def __init__(self, seed: int, window_tokens: int) -> None:
        self._random = random.Random(seed)
        self._window = window_tokens
        # In words: even where a token is a byte, a head with a question and a reply fits the window.
        self._heads = [self._words(self._random.randint(20, 120)) for _ in range(HEADS)]

    def next(self) -> Shot:
        draw = self._random.random
        if draw() < _MALFORMED:
            return self._malformed()
        if draw() < _SUPERVISED:
            return Shot("supervised", CHAT, self._body(CHAT, 12), supervised=True)
        shot = self._random.choice(_KINDS)(self)
        if draw() < _HUNG_UP:
            return _but(shot, kind=f"{shot.kind}, hung up", hang_up_s=draw() * 0.6)
        if draw() < _DEADLINE and isinstance(shot.body, dict):
            late = shot.body | {"deadline_s": round(0.01 + draw() * 0.5, 3)}
            return _but(shot, kind=f"{shot.kind}, deadline", body=late, statuses=frozenset({200, 408}))
        return shot

    def _body(self, path: str, most: int) -> dict[str, Any]:
        """Return a body with a prompt, a length, and what any request may say."""
        pick = self._random
        text = f"{pick.choice(self._heads)} {self._words(pick.randint(1, 12))}"
        body: dict[str, Any] = {"prompt": text} if path == TEXT else {"messages": [{"role": "user", "content": text}]}
        body |= {"max_tokens": pick.randint(1, most), "temperature": pick.choice((0, 0, 0.8))}
        body |= {"seed": pick.randint(0, 9)} if pick.random() < 0.5 else {}
        body |= {"cache_salt": scope} if (scope := pick.choice(SCOPES)) else {}
        body |= {"priority": pick.randint(-2, 2)} if pick.random() < 0.3 else {}
        return body

    def plain(self) -> Shot:
        path = self._random.choice((CHAT, TEXT))
        return Shot("plain", path, self._body(path, 24))

    def long(self) -> Shot:
        return Shot("long", TEXT, self._body(TEXT, 1) | {"max_tokens": 120, "ignore_eos": True})

    def streamed(self) -> Shot:
        path = self._random.choice((CHAT, TEXT))
        more = {"stream": True, "stream_options": {"include_usage": True}} if self._random.random() < 0.5 else {}
        return Shot("stream", path, self._body(path, 24) | {"stream": True} | more)

    def several(self) -> Shot:
        body = self._body(CHAT, 12) | {"n": self._random.randint(2, 4), "temperature": 0.9}
        return Shot("n", CHAT, body | ({"stream": True} if self._random.random() < 0.5 else {}))

    def logprobs(self) -> Shot:
        body = self._body(CHAT, 12) | {"logprobs": True, "top_logprobs": self._random.randint(0, 5)}
        return Shot("logprobs", CHAT, body | ({"stream": True} if self._random.random() < 0.5 else {}))

    def stopped(self) -> Shot:
        stops = self._random.sample([" ", "e", "\n", ". ", "never said"], 2)
        body = self._body(TEXT, 24) | {"stop": stops, "stream": self._random.random() < 0.5}
        return Shot("stop", TEXT, body, judge=lambda texts: _first(texts, lambda t: not any(s in t for s in stops)))

    def regex(self) -> Shot:
        body = self._body(CHAT, 1) | {"max_tokens": 24, "structured_outputs": {"regex": "[a-c]{2,4}-[0-9]{2}"}}
        return Shot("regex", CHAT, body, judge=lambda t: _first(t, re.compile("[a-c]{2,4}-[0-9]{2}").fullmatch))

    def json(self) -> Shot:
        # At temperature 0 a small model may write white space for ever, which the schema allows.
        body = self._body(CHAT, 1) | {"max_tokens": 48, "structured_outputs": {"json": SCHEMA}, "temperature": 0.7}
        return Shot("json", CHAT, body, judge=lambda t: _first(t, _obeys_schema))

    def grammar(self) -> Shot:
        body = self._body(CHAT, 1) | {"max_tokens": 24, "structured_outputs": {"grammar": 'start: ("yes" | "no") "!"'}}
        return Shot("grammar", CHAT, body, judge=lambda t: _first(t, lambda text: text in ("yes!", "no!")))

    def choice(self) -> Shot:
        body = self._body(CHAT, 1) | {"max_tokens": 8, "structured_outputs": {"choice": LABELS}}
        return Shot("choice", CHAT, body, judge=lambda t: _first(t, lambda text: text in LABELS))

    def _malformed(self) -> Shot:
        good = self._body(CHAT, 4)
        return self._random.choice(
            [
                Shot("not JSON", CHAT, b'{"messages": [', frozenset({400})),
                Shot("no object", CHAT, b"[1, 2]", frozenset({400})),
                Shot("unknown field", CHAT, good | {"tools": []}, frozenset({400})),
                Shot("wrong type", CHAT, good | {"max_tokens": "many"}, frozenset({400})),
                Shot("bad grammar", CHAT, good | {"structured_outputs": {"grammar": "start: ("}}, frozenset({400})),
                Shot("bad regex", CHAT, good | {"structured_outputs": {"regex": "[a-"}}, frozenset({400})),
                Shot("half a pair", TEXT, b'{"prompt": "\\ud800", "max_tokens": 1}', frozenset({400})),
                Shot("too long", CHAT, good | {"max_tokens": self._window}, frozenset({400})),
                Shot("other model", CHAT, good | {"model": "another"}, frozenset({404})),
                Shot("no such path", "/v1/embeddings", {}, frozenset({404})),
                Shot("wrong method", "/health", {}, frozenset({405})),
            ]
        )

    def _words(self, count: int) -> str:
        return " ".join(self._random.choices(WORDS, k=count))


_KINDS: tuple[Callable[[Mix], Shot], ...] = (
    Mix.plain,
    Mix.plain,
    Mix.long,
    Mix.streamed,
    Mix.streamed,
    Mix.several,
    Mix.logprobs,
    Mix.stopped,
    Mix.regex,
    Mix.json,
    Mix.grammar,
    Mix.choice,
)


def _but(shot: Shot, **changes: Any) -> Shot:
    fields = {name: getattr(shot, name) for name in ("kind", "path", "body", "statuses", "hang_up_s", "judge")}
    return Shot(**(fields | changes))


def _first(texts: list[str], right: Callable[[str], object]) -> str:
    """Return the first text that is not right, as a complaint; "" when all are."""
    return next((f"the reply is {text[:80]!r}" for text in texts if not right(text)), "")


def _obeys_schema(text: str) -> bool:
    """Tell whether a text obeys SCHEMA, or begins so and was cut by its length."""
    try:
        value = json.loads(text)
    except ValueError:
        return re.match(r"\s*(\{\s*(\"(n(\"\s*(:\s*\d{0,2}\s*)?)?)?)?)?\Z", text) is not None
    return isinstance(value, dict) and list(value) == ["n"] and 0 <= value["n"] <= 99
