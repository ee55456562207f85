"""Routes beside chat, and what stands before all of them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlm_local.cards import Card
from rlm_local.server.desk import Desk
from rlm_local.server.settings import Settings
from tests.server.scripted import FINAL, LOOK, MODEL, chat_body, serving

Serve = Callable[..., Any]
CHAT = "/v1/chat/completions"


async def test_the_models_are_the_card_and_the_engine_behind_it_by_any_alias(serve: Serve) -> None:
    served = await serve()
    listed = (await served.client.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == [MODEL, f"{MODEL}:direct"]
    assert [model["max_model_len"] for model in listed["data"]] == [None, 32_000]
    assert (await served.client.get("/v1/models/SmolLM2:direct")).json()["id"] == f"{MODEL}:direct"
    assert (await served.client.get("/v1/models/gpt-4o")).status_code == 404


async def test_a_server_that_still_loads_lives_and_is_not_ready(card: Card, tmp_path: Any) -> None:
    async with serving(Desk(card, Settings()), None, tmp_path) as served:
        assert (await served.client.get("/health")).json() == {"status": "ok"}
        ready = await served.client.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "loading")
        assert (await served.client.get("/v1/models")).status_code == 200
        assert (await served.chat(status=503))["error"]["code"] == "loading"


async def test_metrics_count_runs_and_tokens_and_name_no_tenant(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    await served.chat()
    lines = (await served.client.get("/metrics")).text.splitlines()
    assert 'rlm_runs_total{outcome="confirmed"} 1' in lines
    assert 'rlm_run_tokens_total{of="completion"} 20' in lines
    assert "rlm_run_seconds_count 1" in lines
    assert 'rlm_places{work="run"} 4' in lines
    assert "local" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", None, 200),
        ("127.0.0.1:8000", None, 200),
        ("[::1]:8000", None, 200),
        ("[::1]", None, 200),
        ("localhost:8000", "http://localhost:8000", 200),
        ("localhost:8000", "http://evil.example", 403),
        ("localhost:8000", "null", 403),
    ],
)
async def test_an_open_server_answers_no_page_of_another_origin(
    serve: Serve, host: str, origin: str | None, status: int
) -> None:
    served = await serve()
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    response = await served.client.get("/v1/models", headers=headers)
    assert response.status_code == status
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("127.0.0.2:8000", 200),  # as --host may name it
        ("[::1]:8000", 200),
        ("rlm.example:8000", 403),  # a page's own name, which leads to loopback
        ("127.0.0.1.rlm.example", 403),
        ("192.0.2.1:8000", 403),
        ("", 403),
    ],
)
async def test_an_open_server_answers_to_the_names_of_loopback_alone(
    card: Card, tmp_path: Path, host: str, status: int
) -> None:
    async with (
        serving(Desk(card, Settings()), None, tmp_path, by_tcp=True) as served,
        httpx.AsyncClient(base_url=served.url) as caller,
    ):
        assert (await caller.get("/v1/models", headers={"Host": host})).status_code == status


async def test_a_body_that_is_too_large_is_refused_while_it_is_read(serve: Serve) -> None:
    served = await serve(max_body_bytes=2048)
    response = await served.client.post(CHAT, content=b"x" * (8 << 20), headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json()["error"]["message"].startswith("the body is over 2048 bytes")
    assert (await served.client.get("/health")).status_code == 200


async def test_a_body_without_an_end_is_hung_up_on(serve: Serve) -> None:
    served = await serve(max_body_bytes=2048)
    reader, writer = await asyncio.open_unix_connection(served.socket)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    writer.write(b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096)
    answer = await reader.read()  # to the end of the connection, which is theirs to make
    assert b" 413 " in answer.split(b"\r\n")[0]
    writer.close()


async def test_a_body_that_does_not_come_is_given_up(serve: Serve) -> None:
    served = await serve(body_piece_s=0.05)
    reader, writer = await asyncio.open_unix_connection(served.socket)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 100\r\n\r\n{")
    head = await reader.readuntil(b"\r\n")
    assert b" 408 " in head
    writer.close()


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("GET", CHAT), ("POST", "/v1/models/x/y")])
async def test_what_is_not_there_is_told_in_the_same_shape(serve: Serve, method: str, path: str) -> None:
    served = await serve()
    response = await served.client.request(method, path)
    assert response.status_code in (404, 405)
    assert response.json()["error"]["message"] == f"there is no {method} {path}"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("OPTIONS", "/v1/files", "GET, POST"),
        ("PUT", "/v1/files/file-1", "DELETE, GET"),
        ("PATCH", "/v1/rlm/runs", "GET, POST"),
        ("GET", CHAT, "POST"),
    ],
)
async def test_all_methods_of_a_path_are_told_to_who_tries_another(
    serve: Serve, method: str, path: str, allowed: str
) -> None:
    response = await (await serve()).client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)


async def test_a_thousand_hostile_bodies_are_refused_and_none_breaks_the_server(serve: Serve) -> None:
    served = await serve(["fine"] * 1000)
    rng = random.Random(7)
    statuses: dict[int, int] = {}
    for number in range(1000):
        body = _hostile(rng, number)
        response = await served.client.post(CHAT, content=body, headers={"Content-Type": "application/json"})
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        assert response.status_code in (200, 400, 404), (body[:300], response.text)
        json.loads(response.content)
    assert statuses[400] > 800
    assert (await served.client.get("/ready")).json()["runs"] == {"running": 0, "waiting": 0, "most": 4}


_WRONG: list[Any] = [None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, "", "\ud800", "\0", "x" * 5000]
_WRONG += [[], {}, [[]], [{}], {"a": {"b": {"c": []}}}, ["x"], {"type": "text"}, {"type": "json_schema"}]


def _hostile(rng: random.Random, number: int) -> bytes:
    """Return a request that differs from a good one in a few places, down to its bytes."""
    if number % 10 == 0:
        deep = rng.choice([10, 1_000, 100_000])
        return rng.choice(
            [b"[" * deep, b'{"a":' * deep, b"", b"\xff\xfe", b"null", b"1" * 5000, b'{"model":' + b"9" * 5000]
        )
    body: Any = chat_body(model=rng.choice([MODEL, f"{MODEL}:direct", MODEL.upper()]))
    body["messages"] = [{"role": "user", "content": "Hi"}]  # where nothing is wrong, the engine answers
    for _ in range(rng.randint(1, 3)):
        names = [
            "model",
            "messages",
            "stream_options",
            "temperature",
            "stop",
            "response_format",
            "rlm",
            "n",
            "logprobs",
        ]
        names += ["structured_outputs", "seed", "tools", "\ud800", "x" * 300, "messages[0]", "__proto__"]
        place, wrong = rng.choice(names), rng.choice(_WRONG)
        if place == "messages[0]" and isinstance(body["messages"], list) and body["messages"]:
            body["messages"][0] = rng.choice(
                [wrong, {"role": wrong, "content": "Hi"}, {"role": "user", "content": wrong}]
            )
        else:
            body[place] = wrong
    raw = json.dumps(body).encode()
    if rng.random() < 0.2:
        cut = rng.randrange(len(raw))
        raw = raw[:cut] + bytes([rng.randrange(256)]) + raw[cut + rng.randint(0, 3) :]
    return raw


async def test_the_documentation_loads_nothing_from_elsewhere(serve: Serve) -> None:
    served = await serve()
    response = await served.client.get("/docs")
    assert response.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
    assert "http://" not in response.text
    assert "https://" not in response.text
    assert "<script" not in response.text
    document = (await served.client.get("/openapi.json")).json()
    for path in ("/v1/chat/completions", "/v1/files", "/v1/rlm/runs", "/v1/rlm/runs/{run_id}/events", "/metrics"):
        assert path in document["paths"]
        assert f"<code>{path}</code>" in response.text
    assert (await served.client.get("/docs.css")).headers["content-type"].startswith("text/css")
