"""Many items through one function: so many at once, and out in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Items: TypeAlias = "AsyncIterable[T] | Iterable[T]"

AT_ONCE = 64  # as many as the CPU engine has under way
_AHEAD = 4  # times that may be started or done while an earlier item is not; a slow one keeps nobody idle


async def in_order(
    items: Items[T], work: Callable[[T], Awaitable[R]], *, at_once: int = AT_ONCE
) -> AsyncGenerator[R, None]:
    """Yield work(item) for each item, in order, each as soon as it and those before it are done.

    Items are taken as they are needed. An exception of one ends them all, and so does closing this.
    """
    slots = asyncio.Semaphore(at_once)
    begun: asyncio.Queue[asyncio.Task[R] | None] = asyncio.Queue(_AHEAD * at_once)
    tasks: set[asyncio.Task[R]] = set()

    async def one(item: T) -> R:
        async with slots:
            return await work(item)

    async def begin_all() -> None:
        try:
            async for item in each(items):
                task = asyncio.create_task(one(item))
                tasks.add(task)
                await begun.put(task)
        except Exception:
            await begun.put(None)  # the error is raised once what came before it is out
            raise
        await begun.put(None)

    beginning = asyncio.create_task(begin_all())
    try:
        while (task := await begun.get()) is not None:
            yield await task
            tasks.discard(task)
        await beginning
    finally:
        beginning.cancel()
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(beginning, *tasks, return_exceptions=True)


async def each(items: Items[T]) -> AsyncGenerator[T, None]:
    """Yield what is in an iterable of either kind."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
