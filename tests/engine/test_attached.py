"""A server that somebody else restarts is asked once more when it is back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import ThreadingHTTPServer

import pytest
import pytest_asyncio

from rlm_local.engine.vllm.attach import AttachedClient, attach
from rlm_local.errors import EngineRefused, EngineUnavailable
from rlm_local.testing import fake_vllm
from rlm_local.types import Completion, Message, Role


class Moody(fake_vllm.Handler):
    """Breaks off as many requests as `broken` says, and is unwell as often as `unwell` says."""

    model, window = "m", 4096
    broken = unwell = 0
    health = 503  # what it says when it is unwell

    def do_GET(self) -> None:  # noqa: N802 http.server names it so
        kind = type(self)
        if self.path == "/health" and kind.unwell:
            kind.unwell -= 1
            self._answer(kind.health, {})
        else:
            super().do_GET()

    def do_POST(self) -> None:  # noqa: N802 http.server names it so
        kind = type(self)
        if kind.broken:
            kind.broken -= 1
            self.close_connection = True
        else:
            super().do_POST()


@pytest.fixture
def moody() -> Iterator[type[Moody]]:
    handler = type("Serving", (Moody,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        handler.url = f"http://127.0.0.1:{server.server_port}"
        yield handler
        server.shutdown()


@pytest_asyncio.fixture
async def client(moody: type[Moody], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AttachedClient]:
    monkeypatch.setattr(AttachedClient, "pause_s", 0.01)
    attached = await attach(moody.url, ["m"], dialect="lark")
    yield attached
    await attached.close()


async def test_a_server_that_is_not_there_is_named_by_its_url() -> None:
    with pytest.raises(EngineUnavailable, match=r"^http://127\.0\.0\.1:1: the engine did not answer GET /v1/models"):
        await attach("http://127.0.0.1:1/v1", ["m"], dialect="lark")


def asked(text: str) -> Completion:
    return Completion((Message(Role.USER, text),), 16)


async def test_what_was_broken_off_is_answered_once_the_server_is_well(
    moody: type[Moody], client: AttachedClient
) -> None:
    moody.broken, moody.unwell = 1, 3
    assert (await client.complete(asked("hello"))).text == "you said hello"
    assert (moody.broken, moody.unwell) == (0, 0)
    moody.broken = 1
    assert await client.count_tokens("four more") == 3
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    moody.broken = 1
    assert (await client.chat(body))["choices"][0]["message"]["content"] == "you said hi"
    moody.broken = 1
    async with client.chat_stream(body) as pieces:
        assert b"you said hi" in b"".join([piece async for piece in pieces])


async def test_what_is_broken_off_twice_is_told(moody: type[Moody], client: AttachedClient) -> None:
    moody.broken = 2
    with pytest.raises(EngineUnavailable):
        await client.complete(asked("hello"))
    assert moody.broken == 0


async def test_a_server_that_stays_away_is_told_as_it_was_found(
    moody: type[Moody], client: AttachedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AttachedClient, "away_s", 0.1)
    moody.broken, moody.unwell = 2, 10_000
    with pytest.raises(EngineUnavailable):
        await client.complete(asked("hello"))
    assert moody.broken == 1  # it was not asked again


@pytest.mark.parametrize("status", [401, 404])
async def test_a_server_that_does_not_tell_how_it_is_is_asked_again_at_once(
    status: int, moody: type[Moody], client: AttachedClient
) -> None:
    moody.health, moody.broken, moody.unwell = status, 1, 2
    assert (await client.complete(asked("hello"))).text == "you said hello"
    assert (moody.broken, moody.unwell) == (0, 1)


async def test_what_a_server_refuses_is_not_asked_again(moody: type[Moody], client: AttachedClient) -> None:
    moody.unwell = 1
    with pytest.raises(EngineRefused):
        await client.complete(asked("x" * 20_000))
    assert moody.unwell == 1


async def test_waiting_for_a_server_is_cancelled_at_once(
    moody: type[Moody], client: AttachedClient, until: Callable[..., Awaitable[None]]
) -> None:
    moody.broken, moody.unwell = 1, 10_000
    asking = asyncio.create_task(client.complete(asked("hello")))
    await until(lambda: moody.unwell < 10_000, within_s=10)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asking, 5)
