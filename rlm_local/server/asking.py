"""What an OpenAI client asks, taken on: by a run over its documents, or by the engine itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request

from rlm_local.events import Event
from rlm_local.grammar import AnswerSchema
from rlm_local.limits import Limits
from rlm_local.ports import Recorder
from rlm_local.server.admission import Ticket
from rlm_local.server.answers import reasoning_of
from rlm_local.server.chat_request import ChatRequest, RunBounds
from rlm_local.server.conversation import Conversation, engine_messages, own_names, read_conversation
from rlm_local.server.desk import Desk, scope_of
from rlm_local.server.files import Files
from rlm_local.server.guard import caller_of, tenant_of
from rlm_local.server.problem import Problem
from rlm_local.server.quotas import Meter
from rlm_local.server.wire import STILL_THERE_S, ended, unless_gone
from rlm_local.texts import utf8_bytes
from rlm_local.types import Answer, Document, JsonObject, Sampling
from rlm_local.types import Request as RunRequest

NO_DOCUMENT = "No document came with this conversation, so the model answers by itself.\n"
_DATA = b"data: "
_OF_RUNS_ALONE = ("max_cost", "max_tokens", "max_prompt_tokens")  # bounds that the engine by itself knows nothing of


@dataclass(frozen=True, slots=True)
class Work:
    """A run that a conversation asks for, with its place. Whoever starts it must answer(), which gives that back."""

    asked: RunRequest  # with the documents that came in the messages alone
    files: Files
    file_ids: tuple[str, ...]  # of the documents that were uploaded
    names: tuple[str, ...]  # of all its documents, those that were uploaded last
    ticket: Ticket
    sampling: Sampling
    left_out: str  # a sentence of what is not asked of it; empty for nothing

    @property
    def ids(self) -> dict[str, str]:
        """The ids of its files, by the names that the run knows them by."""
        return dict(zip(self.names[len(self.names) - len(self.file_ids) :], self.file_ids, strict=True))

    async def answer(self, desk: Desk, recorder: Recorder) -> Answer:
        return await desk.answer(self.ticket, self._whole, recorder, self.sampling)

    async def _whole(self) -> RunRequest:
        """Return the request with its files, read. Raises Problem (404) for one that was deleted meanwhile."""
        if not self.file_ids:
            return self.asked  # whose names are its documents' own already
        brought = await asyncio.to_thread(self.files.documents, self.ticket.tenant, self.file_ids)
        documents = zip(self.names, (*self.asked.documents, *brought), strict=True)
        return replace(self.asked, documents=tuple(Document(name, document.text) for name, document in documents))

    @asynccontextmanager
    async def started(self, desk: Desk, told: Told) -> AsyncIterator[asyncio.Future[Answer]]:
        """Answer beside the block, telling as it goes; leaving the block early ends the run."""
        running = asyncio.ensure_future(self.answer(desk, told))
        running.add_done_callback(lambda _: told.end())
        try:
            yield running
        finally:
            await ended(running)
            self.ticket.close()  # where it was ended before its first step


async def work_of(desk: Desk, files: Files, body: ChatRequest, request: Request) -> Work | None:
    """Return the run that a chat asks for; None where the engine is to answer, because it is meant or for want of a
    document. Raises Problem, as all that is called here, for what is not served."""
    direct = desk.is_direct(body.model)
    body.check(direct=direct, model=desk.card.name)
    runtime = desk.runtime
    tenant = tenant_of(request)
    caller = caller_of(request)
    if desk.quotas is not None:
        desk.quotas.check(caller)
    if direct:
        return None
    conversation = read_conversation(body.messages)
    if not conversation.has_documents:
        for name in _OF_RUNS_ALONE:
            if getattr(body.rlm, name, None) is not None:
                said = (
                    f"rlm.{name} bounds a run, and without a document there is none; leave it out, or bring a document"
                )
                raise Problem(400, said, param="rlm")
        return None
    brought = files.check(tenant, conversation.file_ids)
    for file in brought:
        caller.limits.check_document(file.bytes, file.name)
    if caller.limits.max_document_bytes is not None:
        for document in conversation.documents:
            size = await asyncio.to_thread(utf8_bytes, document.text)
            caller.limits.check_document(size, document.name)
    bounds = body.rlm or RunBounds()
    limits = bounds.limits(body.completion_tokens)
    desk.check_cost(limits)
    asked = RunRequest(conversation.question, conversation.documents, limits, bounds.mode, body.answer_schema())
    if asked.answer_schema is not None:
        AnswerSchema(asked.answer_schema)  # a schema that is not served is told before the first byte
    given = [document.name for document in conversation.documents]
    names = own_names([*given, *(file.name for file in brought)])
    ticket = desk.runs.ticket(tenant, caller)
    sampling = body.sampling(runtime.card.sampling)
    return Work(asked, files, conversation.file_ids, names, ticket, sampling, _left_out(conversation))


class Told:
    """A Recorder that words events for the caller, as they come."""

    def __init__(self, *first: str) -> None:
        self.so_far = [text for text in first if text]
        self._news: asyncio.Queue[str | None] = asyncio.Queue()
        for text in self.so_far:
            self._news.put_nowait(text)

    def write(self, event: Event) -> None:
        if text := reasoning_of(event):
            self.so_far.append(text)
            self._news.put_nowait(text)

    def end(self) -> None:
        """No more comes."""
        self._news.put_nowait(None)

    async def arriving(self) -> AsyncIterator[str]:
        """Yield texts as they come until the end; an empty one where none came for STILL_THERE_S."""
        while True:
            try:
                async with asyncio.timeout(STILL_THERE_S):
                    text = await self._news.get()
            except TimeoutError:
                yield ""
                continue
            if text is None:
                return
            yield text


# --- the engine itself ------------------------------------------------------------------------------------


def is_alone(desk: Desk, body: ChatRequest) -> bool:
    """Tell whether a chat that gets no run was meant to get one: it came without a document."""
    return not desk.is_direct(body.model)


async def engine_answer(desk: Desk, body: ChatRequest, request: Request) -> JsonObject:
    """Return the engine's answer in its own shape, and book it."""
    passed = _engine_body(desk, body, request)
    with closing(desk.direct.ticket(tenant_of(request))) as ticket, Meter(desk.quotas, caller_of(request)) as meter:
        async with _TimeLimit.of(desk, body).kept():
            answer = await unless_gone(request.receive, desk.under_way(_whole(desk, ticket, passed, meter)))
        meter.total = _total_tokens(answer)
    return answer


async def engine_pieces(
    desk: Desk, body: ChatRequest, request: Request, opened: AsyncExitStack
) -> AsyncIterator[bytes]:
    """Return the engine's stream, whose place and connection `opened` holds, and which is booked when that is left."""
    passed = _engine_body(desk, body, request)
    limit = _TimeLimit.of(desk, body)
    ticket = opened.enter_context(closing(desk.direct.ticket(tenant_of(request))))
    opened.enter_context(desk.streaming())
    meter = opened.enter_context(Meter(desk.quotas, caller_of(request)))
    if meter.counts:
        passed["stream_options"] = {"include_usage": True}
    async with limit.kept():
        pieces = await unless_gone(request.receive, _opened(desk, ticket, passed, opened, meter))
    if limit.seconds is not None:
        pieces = limit.held_to(pieces)
    return meter.passed_on(pieces, with_usage=body.with_usage) if meter.counts else pieces


@dataclass(frozen=True, slots=True)
class _TimeLimit:
    """How long an answer may take where a run was meant: as long as the run. None where none was."""

    seconds: float | None
    end: float | None  # in the loop's time

    @classmethod
    def of(cls, desk: Desk, body: ChatRequest) -> _TimeLimit:
        """Return the limit of an answer that begins now."""
        if not is_alone(desk, body):
            return cls(None, None)
        seconds = (body.rlm and body.rlm.max_seconds) or Limits().wall_s
        return cls(seconds, asyncio.get_running_loop().time() + seconds)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """End the block when the time is up. Raises Problem (408) then."""
        try:
            async with asyncio.timeout_at(self.end):
                yield
        except TimeoutError as error:
            said = f"the answer was not there within {self.seconds:g} seconds; raise rlm.max_seconds"
            raise Problem(408, said, code="time_limit") from error

    async def held_to(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what comes in time. Raises Problem when that is not all."""
        while True:
            async with self.kept():
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece


async def chunks_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[JsonObject]:
    """Yield the objects of an engine's stream, whose pieces may end anywhere."""
    rest = b""
    async for piece in pieces:
        *events, rest = (rest + piece).split(b"\n\n")
        for one in events:
            if one.startswith(_DATA + b"{"):
                yield json.loads(one[len(_DATA) :])


async def _whole(desk: Desk, ticket: Ticket, passed: JsonObject, meter: Meter) -> JsonObject:
    async with ticket:
        await _begin(desk, passed, meter)
        return await desk.runtime.engine.chat(passed)


async def _opened(
    desk: Desk, ticket: Ticket, passed: JsonObject, opened: AsyncExitStack, meter: Meter
) -> AsyncIterator[bytes]:
    await asyncio.shield(ticket.turn)
    await _begin(desk, passed, meter)
    return await opened.enter_async_context(desk.runtime.engine.chat_stream(passed))


async def _begin(desk: Desk, passed: JsonObject, meter: Meter) -> None:
    """Note what a request asks of the engine, now that its turn has come.

    What it has cost is told at its end, which a caller who hangs up does not wait for.
    """
    prompt = 0
    if meter.counts:
        messages: Any = passed["messages"]
        prompt = await desk.runtime.engine.count_tokens("\n".join(message["content"] for message in messages))
    meter.begin(prompt)


def _engine_body(desk: Desk, body: ChatRequest, request: Request) -> JsonObject:
    passed = body.engine_body(desk.card.name, scope_of(tenant_of(request)))
    passed["messages"] = [
        {"role": message.role.value, "content": message.content} for message in engine_messages(body.messages)
    ]
    if is_alone(desk, body):
        passed.setdefault("temperature", desk.card.sampling.temperature)
        given = (body.completion_tokens, body.rlm.max_completion_tokens if body.rlm else None)
        if written := [bound for bound in given if bound is not None]:
            passed.pop("max_completion_tokens", None)
            passed["max_tokens"] = min(written)
    return passed


def _total_tokens(answer: JsonObject) -> int:
    usage = answer.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) else 0


def _left_out(conversation: Conversation) -> str:
    count = conversation.left_out
    if not count:
        return ""
    return f"The oldest {count} of the earlier messages {'is' if count == 1 else 'are'} too long to go with it.\n"
