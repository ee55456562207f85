"""httpx's transport for callers who may be cancelled at any moment: no connection is left behind.

httpcore guards its clean-up by anyio's shields, which asyncio's own cancel() goes through. Where one arrives just as
an answer ends, the connection counts as in use for good: it is never used again, never closed, and a pool that is full
of them answers nobody. So all that httpcore does is done in tasks of their own, which are given up by anyio's means.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Generic, TypeVar

import anyio
import httpx

T = TypeVar("T")


class CleanTransport(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx. When cancelled, it returns when the connection was let go of."""
        call = _Call(self._inner.handle_async_request(request))
        try:
            response = await call.answer()
        except BaseException:
            if (unread := await call.give_up()) is not None:  # it came at the same moment
                await _Call(unread.aclose()).answer()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Stream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._inner)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        while True:
            call = _Call(following())
            try:
                piece = await call.answer()
            except BaseException:
                await call.give_up()
                raise
            if piece is None:
                return
            yield piece

    async def aclose(self) -> None:
        await _Call(self._inner.aclose()).answer()


class _Call(Generic[T]):
    """Something that is awaited in a task of its own, and goes on there when who waits for it is cancelled."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._scope = anyio.CancelScope()
        self._task = asyncio.create_task(self._run(work))
        self._task.add_done_callback(_seen)

    async def answer(self) -> T:
        return await asyncio.shield(self._task)

    async def give_up(self) -> T | None:
        """End it, its clean-up included; return what it came to where it was over before."""
        self._scope.cancel()
        await asyncio.wait({self._task})
        return None if self._task.cancelled() or self._task.exception() is not None else self._task.result()

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._scope:
            return await work
        raise asyncio.CancelledError  # it was given up


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # else asyncio complains about one that nobody waited for
