"""`ps`, `runs`, `stop`, and `ask` where a server runs: who is found, who is not believed, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlm_local import __version__
from rlm_local.cards import find_card, load_cards
from rlm_local.cli.main import main
from rlm_local.errors import RlmError
from rlm_local.server.database import Database
from rlm_local.server.desk import Desk
from rlm_local.server.presence import NAME, Presence, read_presence, write_presence
from rlm_local.server.settings import Settings
from rlm_local.testing import ScriptedEngine
from tests.server.scripted import FINAL, LEASE, LOOK, MODEL, PausedEngine, ScriptedRuntime, Served, serving

Serving = Callable[..., "Running"]


class Running:
    """A scripted server in a thread of its own, as a process of its own would be."""

    def __init__(self, folder: Path, engine: ScriptedEngine, model: str) -> None:
        self.state = folder / "state"
        self.engine = engine
        self._folder = folder
        self._model = model
        self._ready: Future[Served] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        self.served = self._ready.result(60)

    async def _run(self) -> None:
        card = find_card(self._model, load_cards())
        try:
            desk = Desk(card, Settings())
            async with serving(desk, ScriptedRuntime(card, self.engine), self._folder, found=True) as served:
                self._ready.set_result(served)
                await desk.asked_to_stop.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    def end(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.served.desk.asked_to_stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._loop.close()

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


@pytest.fixture
def start(toy_home: Path, tmp_path: Path) -> Iterator[Serving]:
    began: list[Running] = []

    def run(engine: ScriptedEngine | None = None, model: str = "toy") -> Running:
        began.append(Running(tmp_path, engine or ScriptedEngine([LOOK, FINAL], window_tokens=32_000), model))
        return began[-1]

    yield run
    for one in began:
        one.end()


@pytest.fixture
def lease(tmp_path: Path) -> str:
    path = tmp_path / "lease.txt"
    path.write_text(LEASE)
    return str(path)


def ask(lease: str, state: Path, *options: str) -> int:
    question = "How long is the notice period?"
    return main(["ask", question, lease, "--model", "toy", "--state", str(state), *options])


def test_a_question_is_asked_of_the_server_that_runs_and_the_choice_is_told(
    start: Serving, lease: str, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start()
    assert ask(lease, running.state, "--max-turns", "5", "--json") == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert (answer["answer"], answer["confirmed"]) == ("ninety days", True)
    assert answer["citations"][0]["document"] == lease
    assert Path(answer["trace"]).parent == running.state / "runs"
    assert f"asked of the server at unix:{running.served.socket}, process {os.getpid()}" in told.err
    assert "turn 1" in told.err
    assert running.served.runtime.asked[0].request.limits.max_turns == 5
    assert main(["runs", "--state", str(running.state)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{Path(answer['trace']).stem}  done ")
    assert main(["runs", "--state", str(running.state), "--status", "failed"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("served", "options", "said"),
    [
        ("toy", ["--window", "8192"], "it takes no --window"),
        ("toy", ["--kv-tokens", "8192", "--window", "8192"], "it takes no --window, --kv-tokens"),
        ("toy", ["--max-turns", "65"], "limits.max_turns"),
        (MODEL, [], f"it serves {MODEL}"),
        ("toy", ["--own-engine"], ""),
    ],
)
def test_where_the_server_shall_not_answer_or_cannot_an_engine_is_started_and_the_reason_told(
    start: Serving, lease: str, capsys: pytest.CaptureFixture[str], served: str, options: list[str], said: str
) -> None:
    running = start(model=served)
    assert ask(lease, running.state, *options) != 0  # no engine can load what the toy has for weights
    told = capsys.readouterr().err
    assert ("asked with an engine of its own, not the server's: " in told) == bool(said)
    assert said in told
    assert "error: " in told
    assert running.served.runtime.asked == []


def test_a_server_that_is_named_and_does_not_run_is_told_and_no_engine_started(
    toy_home: Path, lease: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(lease, tmp_path / "typo") == 1
    said = capsys.readouterr().err
    assert f"error: no server runs that keeps its records in {tmp_path / 'typo'}\n" in said
    assert said.endswith("hint: leave --state out, and an engine is started for the question\n")
    assert not (tmp_path / "typo").exists()


def test_a_server_answers_where_an_engine_of_ones_own_lacks_something(
    start: Serving, lease: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object, **options: object) -> None:
        raise RlmError("model toy is not pulled")

    monkeypatch.setattr("rlm_local.cli.ask.plan_runtime", lacking)
    running = start()
    assert ask(lease, running.state) == 0
    assert ask(lease, running.state, "--own-engine") == 1
    assert ask(lease, running.state, "--window", "8192") == 1
    told = capsys.readouterr().err
    assert told.count("error: model toy is not pulled") == 2
    assert "it takes no --window" in told


def test_ps_shows_server_and_runs_and_stop_ends_a_run_of_any_tenant_and_then_the_server(
    start: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start(PausedEngine([]))
    _, secret = running.served.keys.add("ada", None)
    body = {"question": "Who?", "documents": [{"text": LEASE}]}
    headers = {"Authorization": f"Bearer {secret}"}
    run = running.do(running.served.client.post("/v1/rlm/runs", json=body, headers=headers)).json()["id"]
    state = ["--state", str(running.state)]
    assert main(["ps", *state]) == 0
    first, second, line = capsys.readouterr().out.splitlines()
    assert first.startswith("toy  ready  unix:")
    assert second == "1 of 4 runs at work, 0 wait"
    assert line.startswith(run)
    assert line.endswith("  ada  Who?")
    assert main(["stop", run, *state]) == 0
    assert capsys.readouterr().out == f"{run} is cancelled\n"
    assert main(["stop", "run-0", *state]) == 2
    assert "there is no run 'run-0'" in capsys.readouterr().err
    assert main(["stop", *state]) == 0
    assert capsys.readouterr().out == f"the server, process {os.getpid()}, has stopped\n"
    assert main(["ps", *state]) == 1
    assert "no server runs that keeps its records in" in capsys.readouterr().err


def test_a_file_that_a_killed_server_left_is_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_presence(tmp_path, presence(f"unix:{tmp_path / 'gone'}"))
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    for command in ("ps", "stop"):
        assert main([command, "--state", str(tmp_path)]) == 1
        assert "no server runs" in capsys.readouterr().err
    for damaged in ("", "{}", "[1]", '{"pid": 1}'):
        (tmp_path / NAME).write_text(damaged)
        assert read_presence(tmp_path) is None


def test_who_listens_there_and_does_not_know_the_secret_is_told_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[str] = []

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(f"{self.path} {self.headers}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"proof": "' + b"0" * 64 + b'"}')

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        thread = threading.Thread(target=stranger.serve_forever)
        thread.start()
        try:
            write_presence(tmp_path, presence(f"http://127.0.0.1:{stranger.server_port}"))
            assert main(["stop", "--state", str(tmp_path)]) == 1
        finally:
            stranger.shutdown()
            thread.join()
    assert "no server runs" in capsys.readouterr().err
    assert len(heard) == 1
    assert "s3cret" not in heard[0]


def presence(address: str) -> Presence:
    return Presence(os.getpid(), __version__, MODEL, address, "", "s3cret", 0.0)


async def test_only_the_owner_may_stop_the_server(start: Serving) -> None:
    running = start()
    for headers in ({}, {"Authorization": "Bearer s3cret"}):
        stop = running.served.client.post("/v1/rlm/server/stop", headers=headers)
        response = await asyncio.to_thread(running.do, stop)
        assert response.status_code == 404
    assert not running.served.desk.asked_to_stop.is_set()


def test_runs_says_when_there_are_none_and_when_there_are_more(
    start: Serving, lease: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Database(tmp_path / "none").close()
    assert main(["runs", "--state", str(tmp_path / "none")]) == 0
    assert capsys.readouterr() == ("", f"no runs are kept in {tmp_path / 'none'}\n")
    running = start(ScriptedEngine([LOOK, FINAL] * 2, window_tokens=32_000))
    state = ["--state", str(running.state)]
    assert [ask(lease, running.state, "-q"), ask(lease, running.state, "-q")] == [0, 0]
    capsys.readouterr()
    assert main(["runs", "-n", "1", *state]) == 0
    told = capsys.readouterr()
    assert (told.out.count("\n"), told.err) == (1, "there are more than the newest 1; -n shows as many as it says\n")
    assert main(["runs", "-n", "2", *state]) == 0
    told = capsys.readouterr()
    assert (told.out.count("\n"), told.err) == (2, "")
    assert main(["runs", "--status", "failed", *state]) == 0
    assert capsys.readouterr().err == f"no failed runs are kept in {running.state}\n"
