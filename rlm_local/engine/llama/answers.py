"""Replies in OpenAI's shapes: whole, or as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from rlm_local.engine.llama.reply import Generated, TokenLogprob
from rlm_local.types import ReplyStop, Usage

# OpenAI has no word for a reply that was ended at its limit; closed_text beside "length" says it.
_FINISH = {ReplyStop.COMPLETE: "stop", ReplyStop.LENGTH: "length", ReplyStop.CLOSED: "length"}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Shape:
    """What all parts of one answer have in common."""

    model: str
    chat: bool
    id: str
    created: int

    @classmethod
    def new(cls, model: str, *, chat: bool) -> Shape:
        return cls(model, chat, f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex}", int(time.time()))

    def whole(self, replies: Sequence[Generated]) -> dict[str, Any]:
        """Return a finished answer, one choice for each reply."""
        choices = []
        for i, reply in enumerate(replies):
            said = {"message": {"role": "assistant", "content": reply.text}} if self.chat else {"text": reply.text}
            choices.append({"index": i, **said, **self._ending(reply, reply.logprobs, 0)})
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": choices, "usage": usage_of(replies)}

    def piece(self, index: int, text: str, tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
        """Return the event for more text of one reply.

        tokens: those whose text ends in it, where their log-probabilities are wanted.
        offset: characters of the tokens that were sent before.
        """
        logprobs = self._logprobs(tokens, offset) if tokens else None
        return self._event({"index": index, **self._delta(text), "finish_reason": None, "logprobs": logprobs})

    def ending(self, index: int, reply: Generated, sent: int, offset: int) -> dict[str, Any]:
        """Return the event that ends one reply, whose text was all sent, and the log-probabilities but `sent`."""
        rest = reply.logprobs[sent:] if reply.logprobs else None
        return self._event({"index": index, **self._delta(""), **self._ending(reply, rest or None, offset)})

    def usage(self, replies: Sequence[Generated]) -> dict[str, Any]:
        """Return the event after all replies, for who asked for it."""
        return self._event() | {"usage": usage_of(replies)}

    def _event(self, *choices: dict[str, Any]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._head(kind), "choices": list(choices)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}} if self.chat else {"text": text}

    def _logprobs(self, tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
        return _chat_logprobs(tokens) if self.chat else _text_logprobs(tokens, offset)

    def _ending(self, reply: Generated, tokens: Sequence[TokenLogprob] | None, offset: int) -> dict[str, Any]:
        logprobs = None if tokens is None else self._logprobs(tokens, offset)
        ending: dict[str, Any] = {"finish_reason": _FINISH[reply.stop], "logprobs": logprobs}
        if reply.stop is ReplyStop.CLOSED:
            ending |= {"closed_text": reply.closed.text, "closed_tokens": reply.closed.tokens}
        if reply.choices is not None:
            ending["choice_probabilities"] = [
                {"choice": c.text, "probability": c.probability, "logprob": c.logprob} for c in reply.choices
            ]
        return ending


def event(content: dict[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def usage_of(replies: Sequence[Generated]) -> dict[str, Any]:
    """Return the usage of replies to one prompt: the prompt counts once, as OpenAI has it."""
    first = replies[0].usage
    return usage_object(
        Usage(first.prompt_tokens, first.cached_tokens, sum(r.usage.completion_tokens for r in replies))
    )


def usage_object(usage: Usage) -> dict[str, Any]:
    """Return a usage in OpenAI's shape."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def error_body(message: str, kind: str, code: int | str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code}}


def _chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    def one(piece: bytes, logprob: float) -> dict[str, Any]:
        return {"token": _shown(piece), "bytes": list(piece), "logprob": logprob}

    return {"content": [one(t.piece, t.logprob) | {"top_logprobs": [one(*top) for top in t.top]} for t in tokens]}


def _text_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(_shown(token.piece))
    return {
        "tokens": [_shown(t.piece) for t in tokens],
        "token_logprobs": [t.logprob for t in tokens],
        "top_logprobs": [{_shown(piece): logprob for piece, logprob in t.top} for t in tokens],
        "text_offset": offsets,
    }


def shown_size(tokens: Sequence[TokenLogprob]) -> int:
    """Return the characters that tokens are shown with, each by itself."""
    return sum(len(_shown(token.piece)) for token in tokens)


def _shown(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")
