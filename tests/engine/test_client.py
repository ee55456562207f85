"""What the client sends is JSON in UTF-8, whatever the text of a request holds; and what it says once it is closed."""

from __future__ import annotations

import json

import httpx
import pytest

from rlm_local.engine.client import HttpEngine
from rlm_local.types import EngineInfo


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("Gebühr \U0001f600 <|im_end|> \0", "Gebühr \U0001f600 <|im_end|> \0"),
        ("half \ud83d a pair", "half \ufffd a pair"),  # as FINAL("\ud83d") leaves it
        ("both \ud83d\ude00 halves", "both \ufffd\ufffd halves"),
    ],
)
async def test_every_text_can_be_sent(text: str, sent: str) -> None:
    bodies: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(200, json={"count": 1})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://engine") as client:
        engine = HttpEngine(client, EngineInfo("m", 4096, "lark"))
        assert await engine.count_tokens(text) == 1
    assert json.loads(bodies[0])["prompt"] == sent


async def test_an_engine_whose_client_another_request_has_closed_is_not_healthy() -> None:
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200)), base_url="http://engine")
    engine = HttpEngine(client, EngineInfo("m", 4096, "lark"))
    assert await engine.is_healthy()
    await engine.close()
    assert not await engine.is_healthy()
