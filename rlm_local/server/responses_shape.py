"""An answer as OpenAI's Responses API tells it: whole, or as typed events that are numbered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from rlm_local.server.problem import Problem
from rlm_local.server.responses_request import ResponsesRequest
from rlm_local.server.wire import event
from rlm_local.types import JsonObject, JsonValue, Usage

_CODES = {400: "invalid_prompt", 404: "invalid_prompt", 413: "invalid_prompt", 429: "rate_limit_exceeded"}


class ResponseShape:
    """One response, which grows by the events that its methods return: each must be gone through, in order."""

    def __init__(self, body: ResponsesRequest, model: str) -> None:
        self._events = 0
        self._output: list[JsonValue] = []
        self._item: JsonObject = {}
        self._part: JsonObject = {}
        # In the order and with all the fields that clients are generated for.
        self.response: JsonObject = {
            "id": f"resp_{uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": {},
            "model": model,
            "output": [],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature,
            "text": {"format": body.form()},
            "tool_choice": "none",
            "tools": [],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
        }

    def begin(self) -> Iterator[bytes]:
        yield self._event("response.created", response=self.response)
        yield self._event("response.in_progress", response=self.response)

    def reasoning(self, text: str) -> Iterator[bytes]:
        """Tell a piece of what happens on the way."""
        if not self._item:
            yield from self._open("reasoning")
        yield self._piece("response.reasoning_text.delta", text)

    def text(self, text: str) -> Iterator[bytes]:
        """Tell a piece of the answer; an empty one has it begin."""
        if self._item.get("type") != "message":
            yield from self._close()
            yield from self._open("message")
        if text:
            yield self._piece("response.output_text.delta", text, logprobs=[])

    def cite(self, annotation: JsonObject) -> Iterator[bytes]:
        """Tell a citation of the answer, which has begun."""
        annotations = self._part["annotations"]
        assert isinstance(annotations, list)
        annotations.append(annotation)
        place = self._place() | {"annotation_index": len(annotations) - 1}
        yield self._event("response.output_text.annotation.added", **place, annotation=annotation)

    def end(self, usage: Usage | None, *, whole: bool, rlm: JsonObject | None = None) -> Iterator[bytes]:
        """Tell the end, and the response as a whole.

        usage: None where it is not known. whole: else a limit was met before. rlm: what OpenAI has no place for.
        """
        status = "completed" if whole else "incomplete"
        yield from self._close(status)
        self.response |= {
            "status": status,
            "incomplete_details": None if whole else {"reason": "max_output_tokens"},
            "output": self._output,
            "usage": None if usage is None else _usage_object(usage),
        }
        if rlm is not None:
            self.response["rlm"] = rlm
        yield self._event(f"response.{status}", response=self.response)

    def fail(self, problem: Problem) -> Iterator[bytes]:
        """Tell that no answer comes."""
        error: JsonObject = {
            "code": _CODES.get(problem.status_code, "server_error"),
            "message": str(problem.detail),
        }
        self.response |= {"status": "failed", "error": error, "output": self._output}
        yield self._event("response.failed", response=self.response)

    # --- items and their parts ----------------------------------------------------------------------------

    def _open(self, kind: str) -> Iterator[bytes]:
        """Begin an item with its one part."""
        if kind == "reasoning":
            self._item = {"id": f"rs_{uuid4().hex}", "type": kind, "summary": []}
            self._part = {"type": "reasoning_text", "text": ""}
        else:
            self._item = {"id": f"msg_{uuid4().hex}", "type": kind, "role": "assistant"}
            self._part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        begun = self._item | {"content": [], "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=len(self._output), item=begun)
        yield self._event("response.content_part.added", **self._place(), part=self._part)

    def _piece(self, name: str, text: str, **more: Any) -> bytes:
        self._part["text"] = f"{self._part['text']}{text}"
        return self._event(name, **self._place(), delta=text, **more)

    def _close(self, status: str = "completed") -> Iterator[bytes]:
        if not self._item:
            return
        place, part = self._place(), self._part
        if part["type"] == "reasoning_text":
            yield self._event("response.reasoning_text.done", **place, text=part["text"])
        else:
            yield self._event("response.output_text.done", **place, text=part["text"], logprobs=[])
        yield self._event("response.content_part.done", **place, part=part)
        item = self._item | {"content": [part], "status": status}
        yield self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._item = {}

    def _place(self) -> JsonObject:
        return {"item_id": self._item["id"], "output_index": len(self._output), "content_index": 0}

    def _event(self, name: str, **fields: Any) -> bytes:
        number, self._events = self._events, self._events + 1
        return event({"type": name, "sequence_number": number, **fields}, name=name)


def _usage_object(usage: Usage) -> JsonObject:
    """Return tokens in the API's own words; of a run those of the whole tree, root and sub-calls.

    What is not in the engine's cache is computed, and is in it from then on.
    """
    computed = usage.prompt_tokens - usage.cached_tokens
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": computed},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
