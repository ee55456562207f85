"""What a key may take: runs at once, tokens a day, and how large a document may be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cards import Card
from rlm_local.cli.main import main
from rlm_local.errors import EngineUnavailable
from rlm_local.server.database import Database
from rlm_local.server.desk import Desk
from rlm_local.server.keys import Keys
from rlm_local.server.problem import Problem
from rlm_local.server.quotas import Caller, KeyLimits, Meter, Quotas
from rlm_local.server.settings import Settings
from rlm_local.testing import ScriptedEngine
from tests.server.scripted import (
    FINAL,
    LEASE,
    LOOK,
    MODEL,
    PausedEngine,
    ScriptedRuntime,
    Served,
    chat_body,
    failing,
    serving,
    until,
)

Serve = Callable[..., Any]
RUNS = "/v1/rlm/runs"
BODY = {"question": "How long is the notice period?", "documents": [{"name": "lease.txt", "text": LEASE}]}
DAY_S = 86_400


def key(served: Served, name: str = "ada", **limits: int) -> dict[str, str]:
    """Make a key of one tenant and return the headers that it is sent by."""
    return {"Authorization": f"Bearer {served.keys.add(name, 'office', KeyLimits(**limits))[1]}"}


async def post(served: Served, path: str, body: Any, headers: dict[str, str]) -> Any:
    return await served.client.post(path, json=body, headers=headers)


async def ended(served: Served, run: Any, headers: dict[str, str]) -> dict[str, Any]:
    async with served.client.stream("GET", f"{RUNS}/{run.json()['id']}/events", headers=headers) as response:
        await response.aread()
    return (await served.client.get(f"{RUNS}/{run.json()['id']}", headers=headers)).json()


async def test_a_key_has_no_more_runs_under_way_than_it_may(serve: Serve) -> None:
    engine = PausedEngine([LOOK, FINAL] * 3)
    served = await serve(engine)
    bound, free = key(served, max_runs=1), key(served, "bob")
    first = await post(served, RUNS, BODY, bound)
    refused = [await post(served, RUNS, BODY, bound), await post(served, "/v1/chat/completions", chat_body(), bound)]
    for answer in refused:
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "max_runs")
        assert answer.json()["error"]["message"].startswith("this key has 1 runs under way, as many as it may")
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await post(served, RUNS, BODY, free)).status_code == 202  # of the same tenant
    engine.go.set()
    assert (await ended(served, first, bound))["status"] == "done"
    await until(lambda: served.desk.runs.running == 0)
    assert (await post(served, RUNS, BODY, bound)).status_code == 202
    await until(lambda: served.desk.runs.running == 0)


async def test_a_key_that_has_spent_its_day_waits_for_the_next_also_at_another_server(
    card: Card, tmp_path: Path
) -> None:
    script = ScriptedEngine([LOOK, FINAL, "Hello!"], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, script), tmp_path) as served:
        bound = key(served, tokens_a_day=100)
        run = await ended(served, await post(served, RUNS, BODY, bound), bound)
        id_of = served.keys.all()[0].id
        await until(lambda: served.desk.quotas.spent(id_of) == run["answer"]["usage"]["total_tokens"] > 100)
    silent = ScriptedEngine([], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, silent), tmp_path) as served:
        direct = chat_body(model=f"{MODEL}:direct")
        for path, body in ((RUNS, BODY), ("/v1/chat/completions", chat_body()), ("/v1/chat/completions", direct)):
            refused = await post(served, path, body, bound)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "tokens_a_day")
            assert 1 <= int(refused.headers["Retry-After"]) <= DAY_S


async def test_what_a_run_took_is_booked_once_also_when_it_is_cancelled_or_goes_on(card: Card, tmp_path: Path) -> None:
    engine = PausedEngine([LOOK], free=1)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, engine), tmp_path) as served:
        bound = key(served, tokens_a_day=1_000_000)
        (known,) = served.keys.all()
        run = await post(served, RUNS, BODY, bound)
        await until(lambda: engine.held)
    script = ScriptedEngine([FINAL, LOOK], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, script), tmp_path) as served:
        assert served.desk.quotas.spent(known.id) > 0  # when the first server ended
        told = await ended(served, run, bound)
        await until(lambda: served.desk.quotas.spent(known.id) == told["answer"]["usage"]["total_tokens"])
    engine = PausedEngine([LOOK], free=1)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, engine), tmp_path) as served:
        before = served.desk.quotas.spent(known.id)
        run = await post(served, RUNS, BODY, bound)
        await until(lambda: engine.held)
        await post(served, f"{RUNS}/{run.json()['id']}/cancel", None, bound)
        assert served.desk.quotas.spent(known.id) > before


async def test_the_engine_itself_is_booked_too(serve: Serve) -> None:
    served = await serve(["one two three", "one two three"])
    bound = key(served, tokens_a_day=1_000_000)
    (known,) = served.keys.all()
    direct = chat_body(model=f"{MODEL}:direct")
    whole = (await post(served, "/v1/chat/completions", direct, bound)).json()
    assert served.desk.quotas.spent(known.id) == whole["usage"]["total_tokens"] > 0
    await post(served, "/v1/chat/completions", {**direct, "stream": True}, bound)
    assert served.engine.bodies[-1]["stream_options"] == {"include_usage": True}
    prompt = await prompt_tokens(served)  # the script's stream tells no usage
    assert served.desk.quotas.spent(known.id) == whole["usage"]["total_tokens"] + prompt + 3


@pytest.mark.parametrize("stream", [True, False])
async def test_who_hangs_up_on_the_engine_has_paid_for_what_he_asked(serve: Serve, stream: bool) -> None:
    engine = PausedEngine(["one two three"])
    served = await serve(engine)
    bound = key(served, tokens_a_day=1_000_000)
    (known,) = served.keys.all()
    direct = chat_body(model=f"{MODEL}:direct", stream=stream)
    asking = asyncio.create_task(post(served, "/v1/chat/completions", direct, bound))
    await until(lambda: engine.held)
    asking.cancel()
    await until(lambda: served.desk.quotas.spent(known.id))
    assert served.desk.quotas.spent(known.id) == await prompt_tokens(served)
    await until(lambda: not served.desk.direct.running)


async def test_a_request_that_the_engine_refuses_costs_nothing(serve: Serve) -> None:
    served = await serve([EngineUnavailable("gone")])
    bound = key(served, tokens_a_day=1_000_000)
    (known,) = served.keys.all()
    assert (await post(served, "/v1/chat/completions", chat_body(model=f"{MODEL}:direct"), bound)).status_code == 503
    assert served.desk.quotas.spent(known.id) == 0


async def test_a_run_that_fails_is_booked_as_far_as_it_came(serve: Serve) -> None:
    served = await serve([LOOK, EngineUnavailable("gone")])
    bound = key(served, tokens_a_day=1_000_000)
    (known,) = served.keys.all()
    run = await ended(served, await post(served, RUNS, BODY, bound), bound)
    assert run["status"] == "failed"
    first = served.engine.completions[0]
    least = await served.engine.count_tokens("".join(message.content for message in first.messages))
    assert least < served.desk.quotas.spent(known.id) < 2 * least


async def test_records_that_cannot_be_written_take_no_answer_away(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve([LOOK, FINAL])
    bound = key(served, tokens_a_day=1_000_000)
    failing(monkeypatch, "INTO spent")
    assert (await ended(served, await post(served, RUNS, BODY, bound), bound))["status"] == "done"


async def prompt_tokens(served: Served) -> int:
    """Return the tokens of a chat's messages, as the engine counts a text."""
    return await served.engine.count_tokens("\n".join(one["content"] for one in chat_body()["messages"]))


@pytest.mark.parametrize("with_usage", [True, False])
async def test_the_usage_of_a_stream_is_booked_and_shown_to_who_asked_for_it(tmp_path: Path, with_usage: bool) -> None:
    database = Database(tmp_path)
    limits = KeyLimits(tokens_a_day=1_000)
    known, _ = Keys(database).add("ada", None, limits)
    chunks = [{"choices": [{"delta": {"content": "a"}}]}, {"choices": [], "usage": {"total_tokens": 40}}]
    events = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(b"".join(events)), 7):  # as a network cuts them
            yield b"".join(events)[start : start + 7]

    quotas = Quotas(database)
    with Meter(quotas, Caller(known.id, limits)) as meter:
        meter.begin(9)
        told = b"".join([piece async for piece in meter.passed_on(pieces(), with_usage=with_usage)])
    assert told == b"".join(events if with_usage else [events[0], events[2]])
    assert quotas.spent(known.id) == 40
    database.close()


async def test_a_day_ends_at_midnight(tmp_path: Path) -> None:
    database = Database(tmp_path)
    limits = KeyLimits(tokens_a_day=1_000)
    known, _ = Keys(database).add("ada", None, limits)
    clock = [5.0 * DAY_S - 10]
    quotas = Quotas(database, now=lambda: clock[0])
    for tokens in (600, 600):
        quotas.check(Caller(known.id, limits))
        quotas.book(known.id, tokens)
    with pytest.raises(Problem, match="spent 1200 of its 1000 tokens of today; there are new ones in 10 s") as refused:
        quotas.check(Caller(known.id, limits))
    assert refused.value.headers == {"Retry-After": "10"}
    clock[0] += 10
    quotas.check(Caller(known.id, limits))
    database.close()


async def test_a_document_is_no_larger_than_a_key_takes_however_it_comes(serve: Serve) -> None:
    served = await serve([])
    bound, free = key(served, max_document_bytes=len(LEASE) - 1), key(served, "bob")
    form = {"data": {"purpose": "user_data"}, "files": {"file": ("lease.txt", LEASE)}}
    file = (await served.client.post("/v1/files", headers=free, **form)).json()["id"]
    part = [{"type": "file", "file": {"file_id": file}}, {"type": "text", "text": "How long?"}]
    refused = [
        await served.client.post("/v1/files", headers=bound, **form),
        await post(served, RUNS, BODY, bound),
        await post(served, RUNS, BODY | {"documents": [{"file_id": file}]}, bound),
        await post(served, "/v1/chat/completions", chat_body(), bound),
        await post(served, "/v1/chat/completions", chat_body(messages=[{"role": "user", "content": part}]), bound),
    ]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in refused] == [(413, "too_large")] * 5
    assert served.runtime.asked == []


def test_bounds_are_given_with_the_key_and_listed_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path)]
    bounds = ["--max-runs", "2", "--tokens-a-day", "5000", "--max-document-bytes", "1000"]
    assert main(["keys", "add", "ada", *bounds, *state]) == 0
    assert main(["keys", "add", "bob", *state]) == 0
    capsys.readouterr()
    assert main(["keys", "list", *state]) == 0
    ada, bob = capsys.readouterr().out.splitlines()
    assert ada.endswith("  ada  ada  max_runs=2 tokens_a_day=5000 max_document_bytes=1000")
    assert bob.endswith("  bob  bob")


@pytest.mark.parametrize("option", ["--max-runs", "--tokens-a-day", "--max-document-bytes"])
def test_a_bound_that_cannot_be_is_refused_and_no_key_is_made(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state", str(tmp_path)]
    name = option.removeprefix("--").replace("-", "_")
    most = 2**63 - 1  # of an integer in SQLite
    for value in (0, most + 1, 10**30):
        assert main(["keys", "add", "eve", option, str(value), *state]) == 2
        assert capsys.readouterr() == ("", f"error: {option} is {value}, but must be 1..{most}\n")
    assert list(tmp_path.iterdir()) == []
    assert main(["keys", "add", "ada", option, str(most), *state]) == 0
    capsys.readouterr()
    assert main(["keys", "list", *state]) == 0
    assert capsys.readouterr().out.endswith(f"{name}={most}\n")
