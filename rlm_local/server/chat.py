"""/v1/chat/completions: through a run, or by the engine itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack

from fastapi import APIRouter, Request
from starlette.responses import Response

from rlm_local.errors import RlmError
from rlm_local.server.answers import Shape, content_of
from rlm_local.server.asking import NO_DOCUMENT, Told, Work, engine_answer, engine_pieces, is_alone, work_of
from rlm_local.server.chat_request import ChatRequest
from rlm_local.server.desk import Desk
from rlm_local.server.files import Files
from rlm_local.server.problem import Problem, problem_body, problem_of
from rlm_local.server.wire import DONE, STILL_THERE, EventStream, Json, event, unless_gone
from rlm_local.types import JsonObject

_ROUTE: JsonObject = {"route": "engine"}


def chat_routes(desk: Desk, files: Files) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions", summary="Answer through a run, or by the engine itself (NAME:direct)")
    async def complete(body: ChatRequest, request: Request) -> Response:
        work = await work_of(desk, files, body, request)
        if work is None:
            return await _direct(desk, body, request)
        shape, told = Shape.new(desk.card.name, work.ids), Told(work.left_out)
        if body.stream:
            return EventStream(_run_events(shape, desk, work, told, with_usage=body.with_usage))
        answer = await unless_gone(request.receive, work.answer(desk, told))
        return Json(shape.whole(answer, told.so_far))

    return router


async def _run_events(
    shape: Shape, desk: Desk, work: Work, told: Told, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a run. Closing it, as when the caller hangs up, ends the run."""
    try:
        async with work.started(desk, told) as running:
            yield event(shape.piece({"role": "assistant", "content": ""}))
            async for text in told.arriving():
                yield event(shape.piece({"reasoning_content": text})) if text else STILL_THERE
            answer = await running
        yield event(shape.piece({"content": content_of(answer)}))
        yield event(shape.ending(answer))
        if with_usage:
            yield event(shape.usage(answer.usage))
        yield DONE
    except (RlmError, Problem) as error:
        yield event(problem_body(problem_of(error)))


async def _direct(desk: Desk, body: ChatRequest, request: Request) -> Response:
    """Hand a request to the engine, and its answer, or its stream piece by piece, to the caller.

    Where a run was meant and there is no document, the answer says so.
    """
    alone = is_alone(desk, body)
    if not body.stream:
        answer = await engine_answer(desk, body, request)
        return Json(_noted(answer) if alone else answer)
    async with AsyncExitStack() as opened:
        pieces = await engine_pieces(desk, body, request, opened)
        note = Shape.new(desk.card.name, {}).piece({"role": "assistant", "reasoning_content": NO_DOCUMENT})
        return EventStream(_passed_on(pieces, {**note, "rlm": _ROUTE} if alone else None), opened.pop_all())


async def _passed_on(pieces: AsyncIterator[bytes], first: JsonObject | None) -> AsyncGenerator[bytes, None]:
    if first is not None:
        yield event(first)
    try:
        async for piece in pieces:
            yield piece
    except (RlmError, Problem) as error:
        yield event(problem_body(problem_of(error)))


def _noted(answer: JsonObject) -> JsonObject:
    choices = answer["choices"]
    assert isinstance(choices, list)
    for choice in choices:
        assert isinstance(choice, dict)
        message = choice["message"]
        assert isinstance(message, dict)
        message["reasoning_content"] = NO_DOCUMENT
    return {**answer, "rlm": _ROUTE}
