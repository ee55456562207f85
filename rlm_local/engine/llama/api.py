"""HTTP around one Generator: routes, the window check, errors, and callers who hang up."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rlm_local.engine.llama.binding import Context, Model
from rlm_local.engine.llama.generate import Generated, Generator, Job
from rlm_local.engine.llama.interrupt import Aborted, Cancel
from rlm_local.engine.llama.mask import Grammars
from rlm_local.engine.llama.prefix import PrefixCache
from rlm_local.engine.llama.protocol import Ask, Body, parse_body, parse_chat, parse_text, parse_tokenize
from rlm_local.engine.llama.template import ChatTemplate, encode
from rlm_local.errors import EngineError, EngineRefused, WindowExceeded
from rlm_local.types import ReplyStop, Usage

MAX_BODY_BYTES = 64 << 20
_FINISH = {ReplyStop.COMPLETE: "stop", ReplyStop.LENGTH: "length"}


class Service:
    """One model, its memory, and the queue in front of it: requests are computed one at a time, in order.

    window_tokens: most tokens of one request, prompt and reply together.
    """

    def __init__(self, model: Model, context: Context, *, name: str, window_tokens: int, sequences: int) -> None:
        if window_tokens > min(model.context_tokens, context.cells):
            raise EngineError(
                f"a window of {window_tokens} tokens was asked for, but {name} takes {model.context_tokens} "
                f"and the memory {context.cells}; ask for less"
            )
        self.name = name
        self.window_tokens = window_tokens
        self.started = int(time.time())
        self._model = model
        self._context = context
        source = model.chat_template
        bos, eos = model.special_text("bos"), model.special_text("eos")
        self._template = ChatTemplate(source, bos=bos, eos=eos) if source else None
        if why := model.unshareable:
            sys.stderr.write(f"warning: {name} computes every prompt anew, because {why}\n")
        cache = PrefixCache(context, sequences=sequences, reuse=not model.unshareable)
        self._generator = Generator(context, model, cache)
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")
        # llguidance needs a second for the vocabulary; it runs while the first prompt is computed.
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="grammar")
        tokenizer: Future[Any] = self._helper.submit(model.grammar_tokenizer)
        self._grammars = Grammars(tokenizer.result, ends=model.ends, vocab_size=model.vocab_size)
        self._running: set[Cancel] = set()

    def count(self, text: str) -> list[int]:
        """Return the tokens of a text, read as plain text. From any thread."""
        return self._model.tokenize(text, special=False)

    def prepare(self, ask: Ask) -> Job:
        """Tokenize and measure. Raises WindowExceeded before anything is computed. From any thread."""
        prompt = self._encode(ask)
        room = self.window_tokens - len(prompt)
        wanted = ask.max_tokens if ask.max_tokens is not None else max(1, room)
        if wanted > room:
            raise WindowExceeded(
                f"the prompt has {len(prompt)} tokens and the reply may have {wanted}, together "
                f"{len(prompt) + wanted}, but the window is {self.window_tokens}; "
                "shorten the prompt or lower max_tokens"
            )
        mask = self._grammars.mask(ask.constraint) if ask.constraint else None
        return Job(prompt, wanted, ask.settings, mask)

    async def generate(self, job: Job, cancel: Cancel) -> Generated:
        """Run a job when its turn comes. Raises Aborted once `cancel` is set."""
        self._running.add(cancel)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoder, self._run, job, cancel)
        finally:
            self._running.discard(cancel)

    def cancel_all(self) -> None:
        for cancel in tuple(self._running):
            cancel.set()

    def close(self) -> None:
        self.cancel_all()
        self._decoder.shutdown()
        self._helper.shutdown()
        self._context.close()
        self._model.close()

    def _run(self, job: Job, cancel: Cancel) -> Generated:
        if cancel.is_set:
            raise Aborted("cancelled while it waited")
        return self._generator.run(job, cancel)

    def _encode(self, ask: Ask) -> list[int]:
        if isinstance(ask.prompt, str):
            tokens = self.count(ask.prompt)
            return tokens if self._model.bos is None else [self._model.bos, *tokens]
        if self._template is None:
            raise EngineRefused("these weights carry no chat template; use /v1/completions")
        return encode(self._template.parts(ask.prompt), self._model.tokenize, bos=self._model.bos)


def application(service: Service) -> Starlette:
    """Return the routes. Every error has OpenAI's shape: {"error": {"message", "type", "code"}}."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_card(service)]})

    async def tokenize(request: Request) -> Response:
        text = parse_tokenize(_for(service, await _body(request)))
        tokens = await asyncio.to_thread(service.count, text)
        return JSONResponse({"count": len(tokens), "max_model_len": service.window_tokens, "tokens": tokens})

    async def chat(request: Request) -> Response:
        generated = await _reply(service, request, parse_chat)
        message = {"role": "assistant", "content": generated.text}
        return JSONResponse(_completion(service, generated, "chat.completion", {"message": message}))

    async def text(request: Request) -> Response:
        generated = await _reply(service, request, parse_text)
        return JSONResponse(_completion(service, generated, "text_completion", {"text": generated.text}))

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/v1/models", models),
            Route("/tokenize", tokenize, methods=["POST"]),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", text, methods=["POST"]),
        ],
        exception_handlers={
            WindowExceeded: _handler(400, "invalid_request_error", code="context_length_exceeded"),
            EngineRefused: _handler(400, "invalid_request_error"),
            _UnknownModel: _handler(404, "not_found_error"),
            EngineError: _handler(500, "server_error"),
            ClientDisconnect: _handler(499, "client_closed_request"),
            404: _handler(404, "not_found_error"),
            405: _handler(405, "invalid_request_error"),
        },
    )


class _UnknownModel(EngineRefused):
    pass


async def _reply(service: Service, request: Request, parse: Callable[[Body], Ask]) -> Generated:
    ask = parse(_for(service, await _body(request)))
    job = await asyncio.to_thread(service.prepare, ask)
    cancel = Cancel()
    generating = asyncio.ensure_future(service.generate(job, cancel))
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({generating, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not generating.done():
            cancel.set()
        return await generating
    finally:
        cancel.set()
        gone.cancel()


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


def _completion(service: Service, generated: Generated, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{'chatcmpl' if 'message' in choice else 'cmpl'}-{uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": service.name,
        "choices": [{"index": 0, **choice, "finish_reason": _FINISH[generated.stop], "logprobs": None}],
        "usage": _usage(generated.usage),
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


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
        return JSONResponse({"error": {"message": message, "type": kind, "code": code or status}}, status)

    return handle
