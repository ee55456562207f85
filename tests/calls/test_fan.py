"""Many items through one function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rlm_local.calls.fan import in_order


async def test_results_come_in_the_order_of_the_items_whatever_takes_longest() -> None:
    gates = [asyncio.Event() for _ in range(4)]
    gates[3].set()

    async def work(item: int) -> int:
        await gates[item].wait()
        if item:
            gates[item - 1].set()  # so the last one is done first
        return item

    assert [one async for one in in_order(range(4), work)] == [0, 1, 2, 3]


async def test_no_more_than_so_many_are_under_way_and_none_is_lost() -> None:
    under_way = most = 0

    async def work(item: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return item

    assert [one async for one in in_order(range(5_000), work, at_once=8)] == list(range(5_000))
    assert most == 8


async def test_a_result_does_not_wait_for_the_next_item_to_arrive() -> None:
    forever = asyncio.Event()

    async def typed_slowly() -> AsyncIterator[int]:
        yield 1
        await forever.wait()

    async def work(item: int) -> int:
        return item

    results = in_order(typed_slowly(), work)
    assert await asyncio.wait_for(anext(results), 30) == 1
    await results.aclose()  # type: ignore[attr-defined]


async def test_an_error_of_one_ends_all_and_leaves_no_task() -> None:
    async def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        await asyncio.Event().wait()
        return item

    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="three"):
        await anext(in_order([3, 4, 5], work))
    assert asyncio.all_tasks() == before


async def test_an_error_of_the_items_themselves_comes_after_what_was_done() -> None:
    def failing() -> object:
        yield 1
        raise OSError("the pipe broke")

    async def work(item: int) -> int:
        return item

    results = in_order(failing(), work)  # type: ignore[arg-type]
    assert await anext(results) == 1
    with pytest.raises(OSError, match="the pipe broke"):
        await anext(results)


async def test_a_reader_that_leaves_ends_what_is_under_way() -> None:
    started = asyncio.Event()

    async def work(item: int) -> int:
        if item:
            started.set()
            await asyncio.Event().wait()
        return item

    before = asyncio.all_tasks()
    results = in_order(range(10), work)
    assert await anext(results) == 0
    await started.wait()
    await results.aclose()  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == before
