"""The real `rlm-local serve` as a process, with a real engine and real jails behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from rlm_local.events import Replied
from rlm_local.runtime import JAILS_AHEAD
from rlm_local.trace import read_trace
from tests.e2e.conftest import HARBOUR, MODEL, QUESTION, Asking, Installation

pytestmark = [pytest.mark.engine, pytest.mark.jail]

START_S = 600.0  # on a machine that is busy with other things
SERVED = f"{MODEL} is served at"
DOCUMENT = HARBOUR + "Boats are moored at their owners' risk. The harbour master may move them.\n" * 40
BOUNDS = {"max_turns": 2, "max_seconds": 1200}
CHAT = "/v1/chat/completions"


def asked(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": DOCUMENT}, {"role": "user", "content": QUESTION}]
    return {"model": MODEL, "messages": messages, "rlm": BOUNDS, **fields}


@contextmanager
def client(installation: Installation) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(installation.socket))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=900) as talking:
        yield talking


def eventually(condition: Callable[[], Any], within_s: float = 300.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.01)


def command(installation: Installation, *arguments: str) -> str:
    """Run a command that speaks to the server and return what it printed."""
    words = [sys.executable, "-m", "rlm_local", *arguments]
    done = subprocess.run(words, env=installation.environ, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def workers(server: Asking) -> list[int]:
    return [process.pid for process in server.started() if process.command.startswith("/python/bin/")]


def engines(server: Asking) -> list[int]:
    return [process.pid for process in server.started() if "rlm_local.engine.llama.service" in process.command]


def test_runs_survive_their_engine_and_end_with_their_caller_and_sigterm_leaves_nothing(
    installation: Installation,
) -> None:
    with installation.serve("--drain-seconds", "0.1") as server, client(installation) as talking:
        server.wait_for(SERVED, within_s=START_S)
        # The engine is killed while a run is under way: the run goes on with another one.
        with talking.stream("POST", CHAT, json=asked(stream=True)) as response:
            lines = response.iter_lines()
            next(lines)
            (first,) = engines(server)
            os.kill(first, signal.SIGKILL)
            events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        assert not [event for event in events if "error" in event], events
        assert events[-1]["rlm"]["turns"] <= 2
        assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")
        assert engines(server) != [first]
        # A caller who hangs up takes his jail with him.
        with talking.stream("POST", CHAT, json=asked(stream=True)) as response:
            next(response.iter_lines())
        eventually(lambda: 'rlm_runs_total{outcome="cancelled"} 1\n' in talking.get("/metrics").text)
        eventually(lambda: len(workers(server)) <= JAILS_AHEAD)
        assert talking.get("/ready").json()["runs"]["running"] == 0
        # The engine itself keeps a schema.
        schema: Any = {"type": "object", "properties": {"unit": {"enum": ["day", "week"]}}, "required": ["unit"]}
        schema["additionalProperties"] = False
        form = {"type": "json_schema", "json_schema": {"name": "stay", "schema": schema}}
        body = {"model": f"{MODEL}:direct", "messages": [{"role": "user", "content": "How long?"}], "max_tokens": 60}
        answer = talking.post(CHAT, json={**body, "response_format": form, "temperature": 0}).json()
        assert json.loads(answer["choices"][0]["message"]["content"])["unit"] in ("day", "week")
        with talking.stream("POST", CHAT, json=asked(stream=True)) as response:
            lines = response.iter_lines()
            next(lines)
            server.signal(signal.SIGTERM)
            told = [line for line in lines if line.startswith("data: ")]
        assert json.loads(told[-1][6:])["error"]["code"] == "stopping"
        assert server.wait() == 0
        assert server.left() == []
    assert installation.litter() == []
    assert not installation.socket.exists()
    assert QUESTION not in server.shown
    assert "mooring" not in server.shown


def test_a_second_signal_ends_the_server_at_once_and_leaves_nothing(installation: Installation) -> None:
    with installation.serve("--drain-seconds", "600") as server, client(installation) as talking:
        server.wait_for(SERVED, within_s=START_S)
        with talking.stream("POST", CHAT, json=asked(stream=True)) as response:
            next(response.iter_lines())
            server.signal(signal.SIGTERM)
            server.wait_for('"stopping"')
            server.signal(signal.SIGINT)
            assert server.wait() == 128 + signal.SIGINT
        assert server.left() == []


def test_a_signal_while_the_model_is_loaded_ends_the_server(installation: Installation) -> None:
    with installation.serve() as server:
        eventually(lambda: engines(server), START_S)
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert server.left() == []


def test_accepted_runs_outlive_a_server_that_is_killed_and_go_on_from_their_traces(installation: Installation) -> None:
    body = {"question": QUESTION, "documents": [{"name": "harbour.txt", "text": DOCUMENT}], "limits": BOUNDS}
    with installation.serve("--max-runs", "1") as server, client(installation) as talking:
        server.wait_for(SERVED, within_s=START_S)
        first, second = [talking.post("/v1/rlm/runs", json=body).json()["id"] for _ in range(2)]
        with talking.stream("GET", f"/v1/rlm/runs/{first}/events") as response:
            assert "event: replied" in response.iter_lines()  # it has paid for something
            os.kill(server.pid, signal.SIGKILL)
        server.wait()
        assert server.left() == []
    trace = installation.home / "server" / "runs" / f"{first}.jsonl"
    before = trace.read_bytes()
    with installation.serve() as server, client(installation) as talking:
        server.wait_for(SERVED, within_s=START_S)
        for run in (first, second):
            with talking.stream("GET", f"/v1/rlm/runs/{run}/events") as response:
                names = [line[7:] for line in response.iter_lines() if line.startswith("event: ")]
            assert names.count("run_started") == names.count("ended") == 1
            assert "restarted" not in names
            told = talking.get(f"/v1/rlm/runs/{run}").json()
            assert told["status"] == "done"
            # Unless the first came to its end just before the server did.
            assert told["attempt"] in ((1, 2) if run == first else (1,))
        assert trace.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
        replied = [event.request for event in read_trace(trace).events if isinstance(event, Replied)]
        assert len(replied) == len(set(replied))
        assert {each["id"] for each in talking.get("/v1/rlm/runs").json()["data"]} == {first, second}
        assert f"{MODEL}  ready  unix:{installation.socket}  process {server.pid}" in command(installation, "ps")
        assert len(command(installation, "runs", "--status", "done").splitlines()) == 2
        command(installation, "stop")
        assert server.wait() == 0
        assert server.left() == []
