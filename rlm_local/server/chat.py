"""/v1/chat/completions: through a run, or by the engine itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, closing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from rlm_local.errors import RlmError
from rlm_local.events import Event
from rlm_local.grammar import AnswerSchema
from rlm_local.server.admission import Ticket
from rlm_local.server.answers import Shape, content_of, reasoning_of
from rlm_local.server.chat_request import ChatRequest, RunBounds
from rlm_local.server.conversation import Conversation, engine_messages, read_conversation, unique
from rlm_local.server.desk import Desk, scope_of
from rlm_local.server.files import Files
from rlm_local.server.guard import caller_of, tenant_of
from rlm_local.server.problem import Problem, problem_body, problem_of
from rlm_local.server.wire import DONE, STILL_THERE, STILL_THERE_S, EventStream, Json, ended, event, unless_gone
from rlm_local.types import Answer, JsonObject
from rlm_local.types import Request as RunRequest

NO_DOCUMENT = "No document came with this conversation, so the model answers by itself.\n"
_ROUTE: JsonObject = {"route": "engine"}


def chat_routes(desk: Desk, files: Files) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions", summary="Answer through a run, or by the engine itself (NAME:direct)")
    async def complete(body: ChatRequest, request: Request) -> Response:
        direct = desk.is_direct(body.model)
        body.check(direct=direct, model=desk.card.name)
        runtime = desk.runtime
        tenant = tenant_of(request)
        caller = caller_of(request)
        if desk.quotas is not None:
            desk.quotas.check(caller)
        if direct:
            return await _direct(desk, body, request, tenant)
        conversation = read_conversation(body.messages)
        if not conversation.has_documents:
            return await _direct(desk, body, request, tenant, alone=True)
        brought = await asyncio.to_thread(files.documents, tenant, conversation.file_ids)
        for document in (*conversation.documents, *brought):
            caller.limits.check_document(len(document.text.encode("utf-8", "surrogatepass")), document.name)
        documents = unique([*conversation.documents, *brought])
        ids = dict(zip((document.name for document in documents[-len(brought) :]), conversation.file_ids, strict=False))
        bounds = body.rlm or RunBounds()
        limits = bounds.limits(body.completion_tokens)
        asked = RunRequest(conversation.question, documents, limits, bounds.mode, body.answer_schema())
        if asked.answer_schema is not None:
            AnswerSchema(asked.answer_schema)  # a schema that is not served is told before the first byte
        shape = Shape.new(desk.card.name, ids if brought else {})
        ticket = desk.runs.ticket(tenant, caller)
        told = _Told(_left_out(conversation))

        def run() -> Coroutine[Any, Any, Answer]:
            return desk.answer(ticket, asked, told, body.sampling(runtime.card.sampling))

        if body.stream:
            return EventStream(_run_events(shape, run, told, with_usage=body.with_usage))
        answer = await unless_gone(request.receive, run())
        return Json(shape.whole(answer, told.so_far))

    return router


class _Told:
    """A Recorder that words events for the caller, as they come."""

    def __init__(self, *first: str) -> None:
        self.so_far = [text for text in first if text]
        self.news: asyncio.Queue[str | None] = asyncio.Queue()
        for text in self.so_far:
            self.news.put_nowait(text)

    def write(self, event: Event) -> None:
        if text := reasoning_of(event):
            self.so_far.append(text)
            self.news.put_nowait(text)


async def _run_events(
    shape: Shape, run: Callable[[], Coroutine[Any, Any, Answer]], told: _Told, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a run. Closing it, as when the caller hangs up, ends the run."""
    running = asyncio.ensure_future(run())
    running.add_done_callback(lambda _: told.news.put_nowait(None))
    try:
        yield event(shape.piece({"role": "assistant", "content": ""}))
        async for text in _arriving(told.news):
            yield event(shape.piece({"reasoning_content": text})) if text else STILL_THERE
        answer = await running
        yield event(shape.piece({"content": content_of(answer)}))
        yield event(shape.ending(answer))
        if with_usage:
            yield event(shape.usage(answer.usage))
        yield DONE
    except (RlmError, Problem) as error:
        yield event(problem_body(error if isinstance(error, Problem) else problem_of(error)))
    finally:
        await ended(running)


async def _arriving(news: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    """Yield texts as they come until None does; an empty one where none came for STILL_THERE_S."""
    while True:
        try:
            async with asyncio.timeout(STILL_THERE_S):
                text = await news.get()
        except TimeoutError:
            yield ""
            continue
        if text is None:
            return
        yield text


async def _direct(desk: Desk, body: ChatRequest, request: Request, tenant: str, *, alone: bool = False) -> Response:
    """Hand a request to the engine, and its answer, or its stream piece by piece, to the caller.

    alone: a run was meant and there is no document; the answer says so.
    """
    passed = _engine_body(desk, body, tenant, alone=alone)
    caller, quotas = caller_of(request), desk.quotas
    is_counted = quotas is not None and caller.limits.tokens_a_day is not None
    async with AsyncExitStack() as opened:
        ticket = opened.enter_context(closing(desk.direct.ticket(tenant)))
        if not body.stream:
            answer = await unless_gone(request.receive, desk.under_way(_whole(desk, ticket, passed)))
            if quotas is not None:
                quotas.book(caller.key, _total_tokens(answer))
            return Json(_noted(answer) if alone else answer)
        if is_counted:
            passed["stream_options"] = {"include_usage": True}
        pieces = await unless_gone(request.receive, _opened(desk, ticket, passed, opened))
        if quotas is not None and is_counted:
            pieces = quotas.counted(caller.key, pieces, with_usage=body.with_usage)
        note = Shape.new(desk.card.name, {}).piece({"role": "assistant", "reasoning_content": NO_DOCUMENT})
        return EventStream(_passed_on(pieces, {**note, "rlm": _ROUTE} if alone else None), opened.pop_all())


async def _whole(desk: Desk, ticket: Ticket, passed: JsonObject) -> JsonObject:
    async with ticket:
        return await desk.runtime.engine.chat(passed)


async def _opened(desk: Desk, ticket: Ticket, passed: JsonObject, opened: AsyncExitStack) -> AsyncIterator[bytes]:
    await asyncio.shield(ticket.turn)
    return await opened.enter_async_context(desk.runtime.engine.chat_stream(passed))


async def _passed_on(pieces: AsyncIterator[bytes], first: JsonObject | None) -> AsyncGenerator[bytes, None]:
    if first is not None:
        yield event(first)
    try:
        async for piece in pieces:
            yield piece
    except RlmError as error:
        yield event(problem_body(problem_of(error)))


def _engine_body(desk: Desk, body: ChatRequest, tenant: str, *, alone: bool) -> JsonObject:
    passed = body.engine_body(desk.card.name, scope_of(tenant))
    passed["messages"] = [
        {"role": message.role.value, "content": message.content} for message in engine_messages(body.messages)
    ]
    if alone:
        passed.setdefault("temperature", desk.card.sampling.temperature)
    return passed


def _total_tokens(answer: JsonObject) -> int:
    usage = answer.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) else 0


def _noted(answer: JsonObject) -> JsonObject:
    choices = answer["choices"]
    assert isinstance(choices, list)
    for choice in choices:
        assert isinstance(choice, dict)
        message = choice["message"]
        assert isinstance(message, dict)
        message["reasoning_content"] = NO_DOCUMENT
    return {**answer, "rlm": _ROUTE}


def _left_out(conversation: Conversation) -> str:
    count = conversation.left_out
    if not count:
        return ""
    return f"The oldest {count} of the earlier messages {'is' if count == 1 else 'are'} too long to go with it.\n"
