from __future__ import annotations

import asyncio

import pytest

from rlm_local.server.admission import Admission
from rlm_local.server.problem import Problem


async def test_tenants_take_turns_and_each_keeps_its_own_order() -> None:
    admission = Admission(slots=1, queue=10)
    holder = admission.ticket("first")
    tickets = {name: admission.ticket(name[0]) for name in ("a1", "a2", "a3", "b1", "b2", "c1")}
    order = []
    while admission.running:
        holder.close()
        for name, ticket in tickets.items():
            if ticket.turn.done() and name not in order:
                order.append(name)
                holder = ticket
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert admission.waiting == 0


async def test_a_full_queue_is_told_with_its_numbers() -> None:
    admission = Admission(slots=1, queue=1)
    admission.ticket("a")
    waiting = admission.ticket("b")
    with pytest.raises(Problem) as refused:
        admission.ticket("b")
    assert refused.value.status_code == 429
    assert refused.value.detail.startswith("1 requests are answered and 1 wait")
    waiting.close()
    admission.ticket("b").close()
    assert (admission.running, admission.waiting) == (1, 0)


async def test_a_tenant_who_fills_the_queue_leaves_each_other_one_a_place() -> None:
    admission = Admission(slots=1, queue=2)
    holder, *_ = [admission.ticket("a") for _ in range(3)]
    other = admission.ticket("b")
    for tenant in ("a", "b"):
        with pytest.raises(Problem):
            admission.ticket(tenant)
    holder.close()
    assert (admission.waiting, other.turn.done()) == (2, False)
    without_queue = Admission(slots=1, queue=0)
    without_queue.ticket("a")
    with pytest.raises(Problem):
        without_queue.ticket("b")


async def test_a_place_that_is_closed_twice_is_given_once() -> None:
    admission = Admission(slots=1, queue=5)
    first = admission.ticket("a")
    second, third = admission.ticket("a"), admission.ticket("a")
    first.close()
    first.close()
    assert (second.turn.done(), third.turn.done()) == (True, False)


async def test_whoever_is_cancelled_while_waiting_leaves_the_queue() -> None:
    admission = Admission(slots=1, queue=5)
    admission.ticket("a")
    ticket = admission.ticket("a")

    async def wait() -> None:
        async with ticket:
            raise AssertionError("its turn has come")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert admission.waiting == 0
