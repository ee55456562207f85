"""/v1/rlm/runs: accepted once, followed from the beginning, and there after the server has gone."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cards import Card
from rlm_local.errors import EngineUnavailable
from rlm_local.ports import CallCancelled
from rlm_local.server.database import Database
from rlm_local.server.desk import Desk
from rlm_local.server.files import Files
from rlm_local.server.follow import PIECE_BYTES
from rlm_local.server.quotas import KeyLimits
from rlm_local.server.run_rows import RunState
from rlm_local.server.runs import Runs
from rlm_local.server.settings import Settings
from rlm_local.testing import ScriptedEngine
from rlm_local.types import Completion, Reply, Usage
from tests.server.scripted import FINAL, LEASE, LOOK, PausedEngine, ScriptedRuntime, Served, failing, serving, until

Serve = Callable[..., Any]
RUNS = "/v1/rlm/runs"
BODY = {"question": "How long is the notice period?", "documents": [{"name": "lease.txt", "text": LEASE}]}


async def start(served: Served, *, status: int = 202, **fields: Any) -> dict[str, Any]:
    response = await served.client.post(RUNS, json=BODY | fields)
    assert response.status_code == status, response.text
    return response.json()


async def look(served: Served, run: dict[str, Any]) -> dict[str, Any]:
    return (await served.client.get(f"{RUNS}/{run['id']}")).json()


async def ended(served: Served, run: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(120):
        while (run := await look(served, run))["ended_at"] is None:  # noqa: ASYNC110 it is told over HTTP
            await asyncio.sleep(0.01)
    return run


async def follow(
    served: Served, run: dict[str, Any], *, begun: asyncio.Event | None = None, **headers: str
) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a run to its end, each with its name. begun: is set once they come."""
    found, name = [], ""
    async with served.client.stream("GET", f"{RUNS}/{run['id']}/events", headers=headers) as response:
        if begun is not None:
            begun.set()
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))))
    return found


async def followed_while_held(
    served: Served, engine: PausedEngine
) -> tuple[dict[str, Any], asyncio.Task[list[tuple[str, dict[str, Any]]]]]:
    """Return a run whose engine is held, and who reads its events meanwhile."""
    made = await start(served)
    await until(lambda: engine.held)
    begun = asyncio.Event()
    reading = asyncio.create_task(follow(served, made, begun=begun))
    await begun.wait()
    return made, reading


async def test_a_run_goes_on_without_its_caller_and_its_answer_is_there_later(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    made = await start(served)
    assert (made["status"], made["answer"]) == ("queued", None)
    run = await ended(served, made)
    assert (run["status"], run["attempt"], run["error"]) == ("done", 1, None)
    answer = run["answer"]
    assert (answer["value"], answer["confirmed"]) == ("ninety days", True)
    (citation,) = answer["citations"]
    assert (citation["filename"], LEASE[citation["start"] : citation["end"]]) == ("lease.txt", citation["quote"])
    assert answer["usage"]["completion_tokens"] == 20
    assert (await served.client.get(RUNS)).json()["data"] == [run]
    assert (await served.client.get(RUNS, params={"status": "queued"})).json()["data"] == []


async def test_events_come_from_the_beginning_then_live_and_a_reader_may_come_back(serve: Serve) -> None:
    engine = PausedEngine([LOOK, FINAL])
    served = await serve(engine)
    made, early = await followed_while_held(served, engine)
    engine.go.set()
    told = await early
    names = [name for name, _ in told]
    assert [name for name in names if name != "tokens_counted"][:2] == ["run_started", "turn_started"]
    assert names[-2:] == ["run_ended", "ended"]
    assert [event["seq"] for _, event in told[:-1]] == list(range(len(told) - 1))
    assert told[-1][1] == await look(served, made)
    assert await follow(served, made) == told
    assert await follow(served, made, **{"Last-Event-ID": "1.2"}) == told[3:]
    for odd in ("2", "1.2.3", "9" * 40, "x"):
        assert await follow(served, made, **{"Last-Event-ID": odd}) == told
    # Of an attempt that was cut short nothing is gone on with.
    again = await follow(served, made, **{"Last-Event-ID": "7.2"})
    assert again == [("restarted", {"attempt": 1}), *told]


async def test_a_run_is_cancelled_where_it_stands_in_the_queue_or_at_work(serve: Serve) -> None:
    engine = PausedEngine([LOOK, FINAL])
    served = await serve(engine, max_runs=1)
    runs = [await start(served) for _ in range(2)]
    await until(lambda: engine.held)
    for run in reversed(runs):
        told = (await served.client.post(f"{RUNS}/{run['id']}/cancel")).json()
        assert told["status"] == "cancelled"
    assert (engine.held, served.desk.runs.running, served.desk.runs.waiting) == (0, 0, 0)
    assert (await follow(served, runs[0]))[-1][1]["status"] == "cancelled"
    again = (await served.client.post(f"{RUNS}/{runs[0]['id']}/cancel")).json()
    assert again == await look(served, runs[0])


class SlowToTell(PausedEngine):
    """Tells what a cancelled request has cost, after a while."""

    async def complete(self, completion: Completion) -> Reply:
        try:
            return await super().complete(completion)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
            raise CallCancelled(Usage(1_000, 0, 500)) from None


async def test_a_second_cancel_waits_for_the_first_and_breaks_nothing_off(serve: Serve) -> None:
    engine = SlowToTell([LOOK], free=1)
    served = await serve(engine)
    known, secret = served.keys.add("ada", None, KeyLimits(tokens_a_day=1_000_000))
    served.client.headers["Authorization"] = f"Bearer {secret}"
    run = await start(served)
    await until(lambda: engine.held)
    first = asyncio.create_task(served.client.post(f"{RUNS}/{run['id']}/cancel"))
    await asyncio.sleep(0.1)
    again = await served.client.post(f"{RUNS}/{run['id']}/cancel")
    assert again.json()["status"] == (await first).json()["status"] == "cancelled"
    assert served.desk.quotas.spent(known.id) > 1_500
    await served.desk.stop(0.01)
    assert served.runtime.open_jails == 0


async def test_the_end_of_a_run_that_cannot_be_kept_is_kept_by_the_next_server(
    card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ScriptedEngine([LOOK, FINAL], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, engine), tmp_path) as served:
        failing(monkeypatch, "outcome = ?3")
        run = await start(served)
        assert (await follow(served, run))[-1][0] == "error"
        assert (await look(served, run))["status"] == "running"
    nothing = ScriptedEngine([], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, nothing), tmp_path) as served:
        after = await ended(served, run)
        assert (after["status"], after["answer"]["value"]) == ("done", "ninety days")


async def test_a_run_that_is_cancelled_before_its_first_step_is_cancelled(card: Card, tmp_path: Path) -> None:
    engine = PausedEngine([])
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, engine), tmp_path) as served:
        run = await start(served)
        await until(lambda: engine.held)
    with closing(Database(tmp_path / "state")) as database:
        desk = Desk(card, Settings(max_runs=1))
        runs = Runs(desk, database, Files(database, desk.settings))
        desk.open(ScriptedRuntime(card, ScriptedEngine([], window_tokens=32_000)))
        assert runs.go_on() == 1
        assert (await runs.cancel("local", run["id"])).state is RunState.CANCELLED
        assert desk.runs.running == 0


async def test_no_more_runs_are_kept_than_may_be(serve: Serve) -> None:
    served = await serve([LOOK, FINAL], max_kept_runs=1)
    made = await start(served)
    assert (await start(served, status=409))["error"]["code"] == "too_many_runs"
    await ended(served, made)
    await served.client.delete(f"{RUNS}/{made['id']}")
    await start(served)


async def test_events_of_a_run_that_is_deleted_meanwhile_end_with_an_error(serve: Serve) -> None:
    engine = PausedEngine([LOOK, FINAL])
    served = await serve(engine)
    made, reading = await followed_while_held(served, engine)
    with closing(Database(served.socket.parent / "state")) as database:
        database.write("DELETE FROM runs WHERE id = ?", made["id"])
    engine.go.set()
    told = await reading
    assert told[-1][0] == "error"
    assert told[-1][1]["error"]["code"] == "not_found"


async def lengthen(served: Served, run: dict[str, Any], *, size: int) -> int:
    """Make the trace of a run that has ended longer by `size` bytes, and return how many events it has."""
    path = served.socket.parent / "state" / "runs" / f"{run['id']}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    long = json.dumps(json.loads(lines[-1]) | {"more": "x" * 10_000}).encode() + b"\n"
    count = size // len(long) + 1
    path.write_bytes(b"".join(lines) + long * count)
    return len(lines) + count


async def test_a_long_trace_comes_whole_and_its_end_behind_it(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    run = await ended(served, await start(served))
    count = await lengthen(served, run, size=4 * PIECE_BYTES)
    told = await follow(served, run)
    assert [name for name, _ in told].index("ended") == len(told) - 1 == count


async def test_readers_who_do_not_read_hold_little_of_a_long_trace(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    run = await ended(served, await start(served))
    await lengthen(served, run, size=40 * PIECE_BYTES)
    tracemalloc.start()
    try:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(served.client.stream("GET", f"{RUNS}/{run['id']}/events"))
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * PIECE_BYTES  # a piece and its lines for each, of which one alone would hold 40 if it held all


async def test_a_reader_of_a_long_trace_is_told_when_it_is_deleted_before_he_was_through(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    run = await ended(served, await start(served))
    await lengthen(served, run, size=40 * PIECE_BYTES)
    async with served.client.stream("GET", f"{RUNS}/{run['id']}/events") as response:
        lines = response.aiter_lines()
        assert "run_started" in [await anext(lines) for _ in range(2)][1]
        assert (await served.client.delete(f"{RUNS}/{run['id']}")).status_code == 200
        names = [line.removeprefix("event: ") async for line in lines if line.startswith("event: ")]
    assert names[-1] == "error"


async def test_a_run_that_failed_says_why(serve: Serve) -> None:
    served = await serve([EngineUnavailable("the engine was killed")])
    run = await ended(served, await start(served))
    assert (run["status"], run["answer"], run["error"]["message"]) == ("failed", None, "the engine was killed")


async def test_a_run_is_forgotten_when_its_owner_says_so_and_not_before_its_end(serve: Serve) -> None:
    engine = PausedEngine([LOOK, FINAL])
    served = await serve(engine)
    made = await start(served)
    assert (await served.client.delete(f"{RUNS}/{made['id']}")).status_code == 409
    engine.go.set()
    await ended(served, made)
    assert (await served.client.delete(f"{RUNS}/{made['id']}")).json()["deleted"]
    assert (await served.client.get(f"{RUNS}/{made['id']}")).status_code == 404
    assert list((served.socket.parent / "state" / "runs").iterdir()) == []


async def test_files_are_documents_and_limits_and_schema_are_heeded(serve: Serve) -> None:
    served = await serve([LOOK, "FINAL(90)"])
    served.runtime.printed = "The notice period is 90 days.\n"
    form = {"purpose": "user_data"}
    file = (await served.client.post("/v1/files", files={"file": ("a.txt", LEASE)}, data=form)).json()
    documents = [{"file_id": file["id"]}, {"name": "a.txt", "text": "More."}]
    made = await start(served, documents=documents, limits={"max_turns": 5}, answer_schema={"type": "integer"})
    assert (await ended(served, made))["answer"]["value"] == 90
    (asked,) = served.runtime.asked
    assert [document.name for document in asked.request.documents] == ["a.txt", "a.txt (2)"]
    assert asked.request.limits.max_turns == 5


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"question": " "}, 400, "the question is empty"),
        ({"documents": []}, 400, "documents: "),
        ({"documents": [{"text": "a", "colour": 1}]}, 400, "not served: documents[0].colour"),
        ({"documents": [{"file_id": "file-0"}]}, 404, "there is no such file"),
        ({"documents": [{"name": "a\nb", "text": "c"}]}, 400, "documents[0].name"),
        ({"limits": {"max_turns": 1}}, 400, "limits.max_turns"),
        ({"limits": {"max_cost": 2}}, 400, "max_cost is 2, but the card of smollm2-135m has no price list"),
        ({"answer_schema": {"type": "colour"}}, 400, "colour"),
        ({"model": "gpt-4o"}, 404, "is not served here"),
        ({"model": "smollm2:direct"}, 400, "not of the engine itself"),
        ({"stream": True}, 400, "not served: stream"),
    ],
)
async def test_what_cannot_begin_is_not_accepted(serve: Serve, fields: dict[str, Any], status: int, said: str) -> None:
    served = await serve()
    assert said in (await start(served, status=status, **fields))["error"]["message"]
    assert (await served.client.get(RUNS)).json()["data"] == []


async def test_more_than_the_queue_holds_is_not_accepted(serve: Serve) -> None:
    engine = PausedEngine([])
    served = await serve(engine, max_runs=1, max_queue=1)
    runs = [await start(served) for _ in range(2)]
    assert (await start(served, status=429))["error"]["code"] == "queue_full"
    assert len((await served.client.get(RUNS)).json()["data"]) == len(runs)


async def test_who_asks_again_with_the_same_idempotency_key_gets_the_same_run(serve: Serve) -> None:
    served = await serve([LOOK, FINAL] * 3)
    keys = [served.keys.add(name, None)[1] for name in ("ada", "bob")]

    async def ask(key: str, name: str, **fields: Any) -> Any:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": name}
        return await served.client.post(RUNS, json=BODY | fields, headers=headers)

    first, again, otherwise = await ask(keys[0], "a"), await ask(keys[0], "a"), await ask(keys[0], "b")
    anothers = await ask(keys[1], "a")
    assert first.json()["id"] == again.json()["id"]
    assert len({first.json()["id"], otherwise.json()["id"], anothers.json()["id"]}) == 3
    assert (await ask(keys[0], "a", question="And the rent?")).json()["error"]["code"] == "idempotency_key"
    assert (await ask(keys[0], "a b")).status_code == 400
    await until(lambda: len(served.engine.completions) == 6)


@pytest.mark.parametrize("replies", [[LOOK, FINAL], [EngineUnavailable("gone")]])
async def test_documents_that_came_with_a_run_are_forgotten_when_it_has_ended(serve: Serve, replies: list[Any]) -> None:
    served = await serve(replies)
    await ended(served, await start(served))
    with closing(sqlite3.connect(served.socket.parent / "state" / "server.db")) as records:
        assert records.execute("SELECT body FROM runs").fetchall() == [("",)]


async def test_nobody_learns_of_anothers_run(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    keys = [{"Authorization": f"Bearer {served.keys.add(name, None)[1]}"} for name in ("ada", "bob")]
    made = (await served.client.post(RUNS, json=BODY, headers=keys[0])).json()
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")):
        other = await served.client.request(method, f"{RUNS}/{made['id']}{path}", headers=keys[1])
        nobodys = await served.client.request(method, f"{RUNS}/run-0{path}", headers=keys[1])
        assert (other.status_code, other.content) == (404, nobodys.content)
    assert (await served.client.get(RUNS, headers=keys[1])).json()["data"] == []
    assert (await served.client.get(RUNS, params={"after": made["id"]}, headers=keys[1])).status_code == 404


async def test_what_a_server_leaves_the_next_one_does_and_nothing_twice(card: Card, tmp_path: Path) -> None:
    engine = PausedEngine([])
    settings = Settings(max_runs=1)
    async with serving(Desk(card, settings), ScriptedRuntime(card, engine), tmp_path) as served:
        runs = [await start(served) for _ in range(3)]
        cancelled = await start(served)
        await served.client.post(f"{RUNS}/{cancelled['id']}/cancel")
        await until(lambda: engine.held == 1)
    script = ScriptedEngine([LOOK, FINAL] * 3, window_tokens=32_000)
    async with serving(Desk(card, settings), ScriptedRuntime(card, script), tmp_path) as served:
        for run in runs:
            again = await ended(served, run)
            assert (again["status"], again["answer"]["value"]) == ("done", "ninety days")
        assert [(await look(served, run))["attempt"] for run in runs] == [2, 1, 1]
        assert (await look(served, cancelled))["status"] == "cancelled"
        names = [name for name, _ in await follow(served, runs[0])]
        assert names.count("run_started") == 1
    assert len(script.completions) == 6


async def cut_short(card: Card, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Have a server end while a run is in its second turn; return the run, and the ids of the events until then."""
    engine = PausedEngine([LOOK], free=1)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, engine), folder) as served:
        run = await start(served)
        await until(lambda: engine.held)
    lines = (folder / "state" / "runs" / f"{run['id']}.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["answer"]["stop"] == "cancelled"
    return run, [f"1.{number}" for number in range(len(lines))]


async def test_a_run_goes_on_from_its_trace_and_what_was_paid_is_not_asked_again(card: Card, tmp_path: Path) -> None:
    run, seen = await cut_short(card, tmp_path)
    script = ScriptedEngine([FINAL], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, script), tmp_path) as served:
        again = await ended(served, run)
        assert (again["status"], again["attempt"], again["answer"]["value"]) == ("done", 2, "ninety days")
        assert again["answer"]["usage"]["completion_tokens"] == 20  # of both turns
        names = [name for name, _ in await follow(served, run)]
        assert (names.count("run_started"), names.count("turn_taken")) == (1, 2)
        # Who has read as far as the cut reads on.
        late = [name for name, _ in await follow(served, run, **{"Last-Event-ID": seen[-1]})]
        assert late == names[len(seen) :]
    assert len(script.completions) == 1


async def test_a_run_of_other_weights_begins_anew_and_says_so(card: Card, tmp_path: Path) -> None:
    run, seen = await cut_short(card, tmp_path)
    script = ScriptedEngine([LOOK, FINAL], window_tokens=32_000)
    runtime = ScriptedRuntime(card, script, weights_sha256="1" * 64)
    async with serving(Desk(card, Settings()), runtime, tmp_path) as served:
        assert (await ended(served, run))["answer"]["value"] == "ninety days"
        told = await follow(served, run, **{"Last-Event-ID": seen[-1]})
        assert told == [("restarted", {"attempt": 2}), *await follow(served, run)]
    assert len(script.completions) == 2


async def test_a_run_with_a_damaged_trace_begins_anew(card: Card, tmp_path: Path) -> None:
    run, _ = await cut_short(card, tmp_path)
    (tmp_path / "state" / "runs" / f"{run['id']}.jsonl").write_bytes(bytes(4096))  # as after a loss of power
    script = ScriptedEngine([LOOK, FINAL], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, script), tmp_path) as served:
        assert (await ended(served, run))["answer"]["value"] == "ninety days"


async def test_an_answer_that_a_server_could_not_note_any_more_is_taken_from_the_trace(
    card: Card, tmp_path: Path
) -> None:
    script = ScriptedEngine([LOOK, FINAL], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, script), tmp_path) as served:
        run = await ended(served, await start(served))
    database = Database(tmp_path / "state")
    # As in the moment before it noted the answer, and forgot the documents.
    body = json.dumps(BODY)
    database.write("UPDATE runs SET state = 'running', ended = NULL, outcome = NULL, body = ?", body)
    database.close()
    silent = ScriptedEngine([], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, silent), tmp_path) as served:
        again = await ended(served, run)
    assert (again["status"], again["attempt"], again["answer"]) == ("done", 1, run["answer"])


async def test_records_of_the_first_version_are_read(card: Card, tmp_path: Path) -> None:
    run, seen = await cut_short(card, tmp_path)
    path = tmp_path / "state" / "server.db"
    with closing(sqlite3.connect(path)) as records:
        records.executescript(
            "DROP INDEX runs_by_request; DROP TABLE spent; PRAGMA user_version = 1;"
            + "".join(f"ALTER TABLE runs DROP COLUMN {name};" for name in ("began", "request", "key", "digest"))
            + "".join(f"ALTER TABLE keys DROP COLUMN {name};" for name in asdict(KeyLimits()))
        )
    script = ScriptedEngine([FINAL], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, script), tmp_path) as served:
        assert (await ended(served, run))["answer"]["value"] == "ninety days"
        assert len(await follow(served, run, **{"Last-Event-ID": seen[-1]})) < len(seen)
