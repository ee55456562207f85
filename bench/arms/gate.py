"""The engine as a peer sees it: OpenAI's chat completions on a unix socket, charged to the limits of one task.

Weights, threads and sampling are those of every other arm; a request's own temperature is not heeded. Tokens, turns
and sub-calls are counted here and not by the peer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.arms.spending import LimitReachedError, Spender
from rlm_local.connection import listen_private
from rlm_local.errors import EngineRefused, RlmError, WindowExceeded
from rlm_local.limits import Limits
from rlm_local.types import Message, Reply, ReplyStop, Role, StopReason

SUB_CALL = ":sub"  # behind the model's name in what the peer's code asks, so that it is told from a root's turn
_LAST_WORDS_S = 5.0


class Gate:
    """One task's requests. `over` is set when no further one can be answered, and `stop` or `failure` says why."""

    def __init__(self, spender: Spender, limits: Limits) -> None:
        self._spender = spender
        self._limits = limits
        self._open: set[asyncio.Task[Any]] = set()
        self.turns = 0
        self.subcalls = 0
        self.over = asyncio.Event()
        self.stop: StopReason | None = None
        self.failure: RlmError | None = None  # of ours
        self.window_refusal = ""  # of the root's last request, if it was too long

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Serve on a new unix socket; on the way out requests under way are cancelled, and charged until then."""
        app = Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])
        http = _Http(app)
        serving = asyncio.create_task(http.serve(sockets=[listen_private(path)]))
        try:
            yield
        finally:
            http.should_exit = True
            for request in self._open:
                request.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            await asyncio.wait({serving}, timeout=_LAST_WORDS_S)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _complete(self, request: Request) -> JSONResponse:
        # Its own task, so that it can be ended from here: uvicorn lets a request whose caller is gone go on.
        answering = asyncio.ensure_future(self._answered(await request.body()))
        self._open.add(answering)
        try:
            return await answering
        except asyncio.CancelledError:
            return _refused(503, "the task is over")
        finally:
            self._open.discard(answering)

    async def _answered(self, said: bytes) -> JSONResponse:
        try:
            body = json.loads(said)
            messages = [Message(Role(one["role"]), _text(one["content"])) for one in body["messages"]]
            is_sub = str(body["model"]).endswith(SUB_CALL)
            asked = body.get("max_completion_tokens", body.get("max_tokens"))
            most = self._limits.subcall_tokens if is_sub else self._limits.turn_tokens
            max_tokens = most if asked is None else max(1, min(int(asked), most))
        except (ValueError, KeyError, TypeError) as error:
            return _refused(400, f"this is no chat completion: {type(error).__name__}: {error}")
        if is_sub:
            if self.subcalls >= self._limits.max_subcalls:
                return _refused(400, f"the run may make {self._limits.max_subcalls} sub-calls, and has made them")
            self.subcalls += 1
        else:
            self.turns += 1
            self.window_refusal = ""
        try:
            reply = await self._spender.complete(messages, max_tokens)
        except LimitReachedError as limit:
            self.stop = limit.stop
            self.over.set()
            return _refused(400, f"the limit is reached: {limit.stop}")
        except EngineRefused as error:
            if isinstance(error, WindowExceeded) and not is_sub:
                self.window_refusal = str(error)
            code = "context_length_exceeded" if isinstance(error, WindowExceeded) else "refused"
            return _refused(400, str(error), code)
        except RlmError as error:
            self.failure = error
            self.over.set()
            return _refused(500, str(error))
        return _answer(str(body["model"]), reply)


def _text(content: object) -> str:
    """Return the text of a message, whole or in parts."""
    if content is None:
        return ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)  # type: ignore[attr-defined]


def _refused(status: int, message: str, code: str = "refused") -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)


def _answer(model: str, reply: Reply) -> JSONResponse:
    usage = reply.usage
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": reply.text},
        "finish_reason": "length" if reply.stop is ReplyStop.LENGTH else "stop",
    }
    counted = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
    told = {"id": "gate", "object": "chat.completion", "created": 0, "model": model}
    return JSONResponse({**told, "choices": [choice], "usage": counted})


class _Http(uvicorn.Server):
    """uvicorn without hands on the signals: they are the bench's."""

    def __init__(self, app: Starlette) -> None:
        quiet: dict[str, Any] = {"access_log": False, "log_config": None, "log_level": "critical"}
        super().__init__(uvicorn.Config(app, ws="none", lifespan="off", timeout_graceful_shutdown=1, **quiet))

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
