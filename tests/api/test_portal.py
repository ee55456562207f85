"""A loop for code without one: results, errors, Ctrl-C, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from rlm_local.api.portal import Portal
from rlm_local.errors import RlmError


async def say(word: str) -> str:
    await asyncio.sleep(0)
    return word


async def fail() -> None:
    raise LookupError("nothing there")


def test_it_returns_and_raises_what_the_coroutine_does() -> None:
    portal = Portal()
    assert portal.run(say("yes")) == "yes"
    with pytest.raises(LookupError, match="nothing there"):
        portal.run(fail())
    portal.close()


@pytest.fixture
def _heeded_ctrl_c() -> Iterator[None]:
    """Whoever runs these tests in the background of a shell has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeded_ctrl_c")
def test_ctrl_c_cancels_the_work_and_is_raised_when_it_has_ended() -> None:
    portal, ended = Portal(), threading.Event()

    async def hang() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        portal.run(hang())
    assert ended.is_set()
    assert portal.run(say("still here")) == "still here"
    portal.close()


def test_its_thread_ends_with_close_and_no_work_is_taken_after_it() -> None:
    portal = Portal()
    portal.run(say("yes"))
    portal.close()
    portal.close()
    assert "rlm-local" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(RlmError, match="is closed"):
        portal.run(say("no"))


def test_a_call_from_its_own_thread_is_refused_in_place_of_waiting_for_itself() -> None:
    portal = Portal()

    async def inside() -> str:
        return portal.run(say("never"))

    with pytest.raises(RlmError, match="use AsyncRLM"):
        portal.run(inside())
    portal.close()
