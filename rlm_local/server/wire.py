"""What goes out: JSON that can always be written, event streams that end with their reader."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
STILL_THERE = b": still working\n\n"  # a comment to every reader of events; keeps proxies from giving up
STILL_THERE_S = 15.0
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def encoded(content: object) -> bytes:
    """Return JSON. Half a surrogate pair, which has no UTF-8, becomes U+FFFD; nan and inf become their names."""
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":"))
    return _HALF_PAIR.sub("\ufffd", text).encode()


def event(content: object, *, name: str = "", number: int | None = None) -> bytes:
    """Return one server-sent event. number: its place, which a reader that comes back may name."""
    head = (f"id: {number}\n" if number is not None else "") + (f"event: {name}\n" if name else "")
    return head.encode() + b"data: " + encoded(content) + b"\n\n"


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encoded(content)


class EventStream(Response):
    """Server-sent events, which end as soon as their reader is gone, also while none are to be sent.

    opened: what the events need; left when the stream ends, however it does.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], opened: AsyncExitStack | None = None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._opened = opened or AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened:
            with suppress(ClientDisconnect, OSError):  # nobody is left to be told
                await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for piece in self._events:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            # Closed here: a generator that is left at a yield would end its run only when it is collected.
            if isinstance(self._events, AsyncGenerator):
                await self._events.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. Raises ClientDisconnect, after `work` has ended, when the caller hangs up before.

    The request's body must have been read.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(receive))
    both: set[asyncio.Future[Any]] = {working, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        await ended(working, gone)


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended; what they raise is of no interest any more.

    Whoever is cancelled himself meanwhile waits on: a second cancel would break off what the first one has begun to
    put away, such as what the engine says that a cancelled request has cost.
    """
    for task in tasks:
        task.cancel()
    waiting: asyncio.Future[Any] = asyncio.gather(*tasks, return_exceptions=True)
    cancelled: asyncio.CancelledError | None = None
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError as again:
            cancelled = again
    if cancelled is not None:
        raise cancelled


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _finite(content: Any) -> Any:
    if isinstance(content, float) and (content != content or content in (float("inf"), -float("inf"))):
        return repr(content)
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content
