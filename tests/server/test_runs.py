"""/v1/rlm/runs: accepted once, followed from the beginning, and there after the server has gone."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from rlm_local.errors import EngineUnavailable
from rlm_local.ports import CallCancelled
from rlm_local.server.quotas import KeyLimits
from rlm_local.types import Completion, Reply, Usage
from tests.server.running import BODY, RUNS, Serve, ended, follow, look, start
from tests.server.scripted import FINAL, LEASE, LOOK, PausedEngine, until


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


async def test_no_more_runs_are_kept_than_may_be(serve: Serve) -> None:
    served = await serve([LOOK, FINAL], max_kept_runs=1)
    made = await start(served)
    assert (await start(served, status=409))["error"]["code"] == "too_many_runs"
    await ended(served, made)
    await served.client.delete(f"{RUNS}/{made['id']}")
    await start(served)


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
