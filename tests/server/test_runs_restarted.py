"""/v1/rlm/runs after a server has ended: nothing accepted is lost, and nothing is done twice."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cards import Card
from rlm_local.server.database import Database
from rlm_local.server.desk import Desk
from rlm_local.server.files import Files
from rlm_local.server.quotas import KeyLimits
from rlm_local.server.run_rows import RunState
from rlm_local.server.runs import Runs
from rlm_local.server.settings import Settings
from rlm_local.testing import ScriptedEngine
from tests.server.running import BODY, RUNS, ended, follow, look, start
from tests.server.scripted import FINAL, LOOK, PausedEngine, ScriptedRuntime, failing, serving, until


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
            + "".join(f"ALTER TABLE keys DROP COLUMN {name};" for name in (*asdict(KeyLimits()), "watches"))
        )
    script = ScriptedEngine([FINAL], window_tokens=32_000)
    async with serving(Desk(card, Settings()), ScriptedRuntime(card, script), tmp_path) as served:
        assert (await ended(served, run))["answer"]["value"] == "ninety days"
        assert len(await follow(served, run, **{"Last-Event-ID": seen[-1]})) < len(seen)
