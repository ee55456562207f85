"""/v1/responses: the same answers as /v1/chat/completions gives, as OpenAI's newer API asks for them and tells them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import chain
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from rlm_local.errors import RlmError
from rlm_local.server.answers import citation_of, content_of, is_whole, told_of
from rlm_local.server.asking import (
    NO_DOCUMENT,
    Told,
    Work,
    chunks_of,
    engine_answer,
    engine_pieces,
    is_alone,
    work_of,
)
from rlm_local.server.chat_request import ChatRequest
from rlm_local.server.desk import Desk
from rlm_local.server.files import Files
from rlm_local.server.problem import Problem, problem_of
from rlm_local.server.responses_request import ResponsesRequest
from rlm_local.server.responses_shape import ResponseShape
from rlm_local.server.wire import STILL_THERE, EventStream, Json, unless_gone
from rlm_local.types import Answer, JsonObject, Usage

_ROUTE: JsonObject = {"route": "engine"}
# What an error of the chat calls a field, and what it is called here.
_FIELDS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
}


def responses_routes(desk: Desk, files: Files) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/responses", summary="The same in the words of OpenAI's Responses API; no response is kept")
    async def respond(body: ResponsesRequest, request: Request) -> Response:
        body.check()
        if desk.is_direct(body.model) and body.has_file:
            raise Problem(400, "the input has a file, which only a run reads", param="input")
        chat = body.as_chat()
        try:
            work = await work_of(desk, files, chat, request)
        except Problem as problem:
            problem.param = _FIELDS.get(problem.param or "", problem.param)
            raise
        shape = ResponseShape(body, body.model)
        if work is None:
            return await _by_engine(shape, desk, chat, request)
        told = Told(work.left_out)
        if body.stream:
            return EventStream(_run_events(shape, desk, work, told))
        answer = await unless_gone(request.receive, work.answer(desk, told))
        return _at_once(shape, shape.reasoning("".join(told.so_far)), _answer_events(shape, work, answer))

    return router


def _at_once(shape: ResponseShape, *events: Iterator[bytes]) -> Response:
    """Return the response that these events make, without the events."""
    for _ in chain(*events):
        pass
    return Json(shape.response)


async def _run_events(shape: ResponseShape, desk: Desk, work: Work, told: Told) -> AsyncGenerator[bytes, None]:
    """Yield the events of a run. Closing it, as when the caller hangs up, ends the run."""
    try:
        async with work.started(desk, told) as running:
            for one in shape.begin():
                yield one
            async for text in told.arriving():
                for one in shape.reasoning(text) if text else (STILL_THERE,):
                    yield one
            for one in _answer_events(shape, work, await running):
                yield one
    except (RlmError, Problem) as error:
        for one in shape.fail(problem_of(error)):
            yield one


def _answer_events(shape: ResponseShape, work: Work, answer: Answer) -> Iterator[bytes]:
    yield from shape.text(content_of(answer))
    ids = work.ids
    for citation in answer.citations:
        name = citation.document
        file: JsonObject = {"file_id": ids.get(name, ""), "index": work.names.index(name)}
        yield from shape.cite({"type": "file_citation", **file, **citation_of(citation)})
    yield from shape.end(answer.usage, whole=is_whole(answer), rlm=told_of(answer))


# --- the engine itself ------------------------------------------------------------------------------------


async def _by_engine(shape: ResponseShape, desk: Desk, chat: ChatRequest, request: Request) -> Response:
    """Return the engine's answer. Where a run was meant and there is no document, it says so."""
    alone = is_alone(desk, chat)
    if not chat.stream:
        answer: Any = await engine_answer(desk, chat, request)
        (choice,) = answer["choices"]
        note = shape.reasoning(NO_DOCUMENT) if alone else iter(())
        return _at_once(shape, note, shape.text(choice["message"]["content"] or ""), _end(shape, choice, answer, alone))
    async with AsyncExitStack() as opened:
        pieces = await engine_pieces(desk, chat, request, opened)
        return EventStream(_engine_events(shape, pieces, alone=alone), opened.pop_all())


async def _engine_events(
    shape: ResponseShape, pieces: AsyncIterator[bytes], *, alone: bool
) -> AsyncGenerator[bytes, None]:
    last: dict[str, Any] = {"finish_reason": None}
    usage: dict[str, Any] = {}
    try:
        for one in chain(shape.begin(), shape.reasoning(NO_DOCUMENT) if alone else ()):
            yield one
        async for chunk in chunks_of(pieces):
            told = _told_in(chunk)
            usage = told if told.get("usage") else usage
            for choice in told["choices"]:
                last = choice if choice.get("finish_reason") else last
                if text := choice["delta"].get("content"):
                    for one in shape.text(text):
                        yield one
        for one in chain(shape.text(""), _end(shape, last, usage, alone)):
            yield one
    except (RlmError, Problem) as error:
        for one in shape.fail(problem_of(error)):
            yield one


def _told_in(chunk: Any) -> dict[str, Any]:
    """Return a piece of the engine's answer. Raises Problem for the error that it may be."""
    if "error" in chunk:
        raise Problem(500, str(chunk["error"]["message"]))
    told: dict[str, Any] = chunk
    return told


def _end(shape: ResponseShape, choice: dict[str, Any], told: dict[str, Any], alone: bool) -> Iterator[bytes]:
    """Yield the end of an engine's answer, which its last choice and its usage tell."""
    usage = told.get("usage")
    counted = None
    if usage:
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        counted = Usage(usage["prompt_tokens"], cached, usage["completion_tokens"])
    yield from shape.end(counted, whole=choice["finish_reason"] != "length", rlm=_ROUTE if alone else None)
