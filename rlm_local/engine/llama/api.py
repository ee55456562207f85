"""HTTP around one Service: routes, errors, streams, and callers who hang up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

from rlm_local.engine.llama.answers import DONE, Shape, error_body, event, shown_size, usage_object
from rlm_local.engine.llama.intake import Service
from rlm_local.engine.llama.interrupt import DeadlinePassed
from rlm_local.engine.llama.protocol import (
    Ask,
    Body,
    parse_body,
    parse_cancel,
    parse_chat,
    parse_detokenize,
    parse_flush,
    parse_text,
    parse_tokenize,
)
from rlm_local.engine.llama.reply import Generated, TokenLogprob
from rlm_local.engine.llama.request import Job
from rlm_local.errors import EngineError, EngineRefused, WindowExceeded

MAX_BODY_BYTES = 64 << 20


def application(service: Service) -> Starlette:
    """Return the routes. Every error has OpenAI's shape: {"error": {"message", "type", "code"}}."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(service.metrics(), media_type="text/plain; version=0.0.4")

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_card(service)]})

    async def tokenize(request: Request) -> Response:
        text = parse_tokenize(_for(service, await _body(request)))
        tokens = await asyncio.to_thread(service.count, text)
        return JSONResponse({"count": len(tokens), "max_model_len": service.window_tokens, "tokens": tokens})

    async def detokenize(request: Request) -> Response:
        tokens = parse_detokenize(_for(service, await _body(request)))
        return JSONResponse({"prompt": await asyncio.to_thread(service.text_of, tokens)})

    async def flush(request: Request) -> Response:
        return JSONResponse({"freed_tokens": await service.flush(parse_flush(await _body(request)))})

    async def cancel(request: Request) -> Response:
        spent = await service.cancel_named(parse_cancel(await _body(request)))
        return JSONResponse({"usage": usage_object(spent)})

    async def complete(request: Request, parse: Callable[[Body], Ask], *, chat: bool) -> Response:
        body = _for(service, await _body(request))
        ask = parse(body)
        jobs = await asyncio.to_thread(service.prepare, ask)
        shape = Shape.new(service.name, chat=chat)
        if ask.stream:
            events = _events(service, shape, jobs, with_usage=ask.stream_usage, name=ask.request_id)
            return _Stream(events)
        return JSONResponse(shape.whole(await _replies(service, request, jobs, name=ask.request_id)))

    async def chat(request: Request) -> Response:
        return await complete(request, parse_chat, chat=True)

    async def text(request: Request) -> Response:
        return await complete(request, parse_text, chat=False)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/v1/models", models),
            Route("/tokenize", tokenize, methods=["POST"]),
            Route("/detokenize", detokenize, methods=["POST"]),
            Route("/cancel", cancel, methods=["POST"]),
            Route("/reset_prefix_cache", flush, methods=["POST"]),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", text, methods=["POST"]),
        ],
        exception_handlers={
            WindowExceeded: _handler(400, "invalid_request_error", code="context_length_exceeded"),
            EngineRefused: _handler(400, "invalid_request_error"),
            _UnknownModel: _handler(404, "not_found_error"),
            DeadlinePassed: _handler(408, "timeout_error"),
            EngineError: _handler(500, "server_error"),
            ClientDisconnect: _handler(499, "client_closed_request"),
            404: _handler(404, "not_found_error"),
            405: _handler(405, "invalid_request_error"),
        },
    )


class _UnknownModel(EngineRefused):
    pass


async def _replies(service: Service, request: Request, jobs: list[Job], *, name: str) -> list[Generated]:
    """Return all replies; a caller who hangs up, or one reply that fails, ends the others."""
    running = [service.start(job, name=name) for job in jobs]
    generating: asyncio.Future[list[Generated]] = asyncio.gather(*map(service.reply, running))
    gone: asyncio.Future[None] = asyncio.ensure_future(_hung_up(request))
    both: set[asyncio.Future[Any]] = {generating, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not generating.done():
            for one in running:
                service.cancel(one)
        return await generating
    finally:
        for one in running:
            service.cancel(one)
        gone.cancel()


class _Stream(StreamingResponse):
    """Server-sent events. What a reader leaves lying is at most one reply and the socket's buffers."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._events = events

    async def stream_response(self, send: Send) -> None:
        # Closed here: a generator that is left at a yield would end its replies only when it is collected.
        async with aclosing(self._events):
            await super().stream_response(send)


async def _events(
    service: Service, shape: Shape, jobs: list[Job], *, with_usage: bool, name: str
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a stream. Closing it, as when the caller hangs up, ends the replies."""
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[tuple[int, _Piece | Generated | EngineError]] = asyncio.Queue()

    def say(index: int, text: str, tokens: Sequence[TokenLogprob]) -> None:  # on the decode thread
        loop.call_soon_threadsafe(news.put_nowait, (index, _Piece(text, tuple(tokens))))

    async def finish(index: int) -> None:
        try:
            news.put_nowait((index, await service.reply(running[index])))
        except EngineError as error:
            news.put_nowait((index, error))

    running = [service.start(job, partial(say, i), name=name) for i, job in enumerate(jobs)]
    ends = [asyncio.ensure_future(finish(i)) for i in range(len(jobs))]
    sent, offsets = [0] * len(jobs), [0] * len(jobs)  # tokens, and characters of them
    replies: list[Generated] = []
    try:
        while len(replies) < len(jobs):
            index, new = await news.get()
            if isinstance(new, _Piece):
                yield event(shape.piece(index, new.text, new.tokens, offsets[index]))
                sent[index] += len(new.tokens)
                offsets[index] += shown_size(new.tokens)
            elif isinstance(new, Generated):
                replies.append(new)
                yield event(shape.ending(index, new, sent[index], offsets[index]))
            else:
                status = 408 if isinstance(new, DeadlinePassed) else 500
                yield event(error_body(str(new), "server_error", status))
                return
        if with_usage:
            yield event(shape.usage(replies))
        yield DONE
    finally:
        for one in running:
            service.cancel(one)
        await asyncio.gather(*ends)


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    tokens: tuple[TokenLogprob, ...]  # whose text ends in it; none unless they are wanted


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> Body:
    size, chunks = 0, []
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise EngineRefused(f"the body is over {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return await asyncio.to_thread(parse_body, b"".join(chunks))


def _for(service: Service, body: Body) -> Body:
    model = body.get("model", service.name)
    if model != service.name:
        raise _UnknownModel(f"model is {model!r}, but this engine serves {service.name!r}")
    return body


def _card(service: Service) -> dict[str, Any]:
    return {
        "id": service.name,
        "object": "model",
        "created": service.started,
        "owned_by": "rlm-local",
        "max_model_len": service.window_tokens,
    }


def _handler(status: int, kind: str, *, code: str | None = None) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        message = str(getattr(error, "detail", error)) or f"{request.method} {request.url.path} failed"
        return JSONResponse(error_body(message, kind, code or status), status)

    return handle
