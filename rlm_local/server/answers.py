"""A run's answer in OpenAI's shapes: whole, or piece by piece."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import uuid4

from rlm_local.events import Event, RunEnded, RunStarted
from rlm_local.server.wire import encoded
from rlm_local.trace import event_lines
from rlm_local.types import Answer, Citation, Document, JsonObject, JsonValue, StopReason, Text, Usage

SURROUNDINGS_CHARS = 600  # of a document, on each side of a quote, that the answer of a run keeps


@dataclass(frozen=True, slots=True)
class Shape:
    """What all parts of one answer have in common. file_ids: by the name of the document."""

    id: str
    model: str
    created: int
    file_ids: Mapping[str, str]

    @classmethod
    def new(cls, model: str, file_ids: Mapping[str, str]) -> Shape:
        return cls(f"chatcmpl-{uuid4().hex}", model, int(time.time()), file_ids)

    def whole(self, answer: Answer, reasoning: Sequence[str]) -> JsonObject:
        """Return a finished answer; reasoning: what a stream would have told on the way."""
        message: JsonObject = {
            "role": "assistant",
            "content": content_of(answer),
            "reasoning_content": "".join(reasoning),
            "annotations": self._annotations(answer),
        }
        choice: JsonObject = {"index": 0, "message": message, "finish_reason": _finish(answer), "logprobs": None}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_of(answer.usage),
            "rlm": told_of(answer),
        }

    def piece(self, delta: JsonObject) -> JsonObject:
        return {**self._head("chat.completion.chunk"), "choices": [_choice(delta, None)]}

    def ending(self, answer: Answer) -> JsonObject:
        """Return the last piece: citations, and how the run ended."""
        delta: JsonObject = {"annotations": self._annotations(answer)}
        ended: list[JsonValue] = [_choice(delta, _finish(answer))]
        return {**self._head("chat.completion.chunk"), "choices": ended, "rlm": told_of(answer)}

    def usage(self, usage: Usage) -> JsonObject:
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_of(usage)}

    def _annotations(self, answer: Answer) -> list[JsonValue]:
        return [{"type": "file_citation", "file_citation": self._citation(each)} for each in answer.citations]

    def _citation(self, citation: Citation) -> JsonObject:
        told = citation_of(citation)
        file_id = self.file_ids.get(citation.document)
        return told if file_id is None else {"file_id": file_id, **told}

    def _head(self, kind: str) -> JsonObject:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def content_of(answer: Answer) -> str:
    """Return the answer as a message: a text as it is, anything else as JSON, and for no answer the reason."""
    if answer.value is None:
        return f"No answer was found: {answer.reason or answer.stop.value}."
    return answer.value if isinstance(answer.value, str) else encoded(answer.value).decode()


def reasoning_of(event: Event) -> str:
    """Return what a reader sees of an event on the way; the answer itself comes as content."""
    if isinstance(event, RunStarted | RunEnded):
        return ""
    lines = event_lines(event)
    return "\n".join(lines) + "\n" if lines else ""


def told_of(answer: Answer) -> JsonObject:
    """Return what OpenAI's shape has no place for."""
    return {
        "route": "run",
        "value": answer.value,
        "confirmed": answer.confirmed,
        "stop": answer.stop.value,
        "reason": answer.reason,
        "turns": answer.turns,
        "subcalls": answer.subcalls,
        "wall_s": round(answer.wall_s, 3),
        "unfound": list(answer.unfound),
        "cost": asdict(answer.cost) if answer.cost else None,
    }


def citation_of(citation: Citation) -> JsonObject:
    return {
        "filename": citation.document,
        "quote": citation.quote,
        "start": citation.start,
        "end": citation.end,
        "line": citation.line,
    }


def kept_answer(answer: Answer, documents: Sequence[Document]) -> JsonObject:
    """Return the answer of a run that outlives its documents: what stands around each quote is kept with it."""
    told = told_of(answer)
    del told["route"]
    text_of = {document.name: document.text for document in documents}
    citations = [citation_of(each) | _surroundings(each, text_of[each.document]) for each in answer.citations]
    return {**told, "citations": [*citations], "usage": usage_of(answer.usage)}


def _surroundings(citation: Citation, text: Text) -> JsonObject:
    return {
        "before": text[max(0, citation.start - SURROUNDINGS_CHARS) : citation.start],
        "after": text[citation.end : citation.end + SURROUNDINGS_CHARS],
    }


def usage_of(usage: Usage) -> JsonObject:
    """Return the tokens of the whole tree: root and sub-calls."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _choice(delta: JsonObject, finish: str | None) -> JsonObject:
    return {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}


def is_whole(answer: Answer) -> bool:
    """Tell whether a run came to its own end; else a limit has ended it."""
    return answer.stop is StopReason.FINAL


def _finish(answer: Answer) -> str:
    return "stop" if is_whole(answer) else "length"
