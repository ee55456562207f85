"""The real `rlm-local serve` as a process, with a real engine and real jails behind it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import HARBOUR, MODEL, QUESTION, Asking, Installation

pytestmark = [pytest.mark.engine, pytest.mark.jail]

START_S = 300.0  # on a machine that is busy with other things
SERVED = f"{MODEL} is served at"
DOCUMENT = HARBOUR + "Boats are moored at their owners' risk. The harbour master may move them.\n" * 40
CHAT = "/v1/chat/completions"


def asked(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": DOCUMENT}, {"role": "user", "content": QUESTION}]
    return {"model": MODEL, "messages": messages, "rlm": {"max_turns": 3, "max_seconds": 300}, **fields}


@contextmanager
def client(installation: Installation) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(installation.socket))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=300) as talking:
        yield talking


def eventually(condition: Callable[[], Any], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.01)


def workers(server: Asking) -> list[int]:
    return [process.pid for process in server.started() if process.command.startswith("/python/bin/")]


def test_runs_survive_their_engine_and_end_with_their_caller_and_sigterm_leaves_nothing(
    installation: Installation,
) -> None:
    with installation.serve("--drain-seconds", "0.1") as server, client(installation) as talking:
        server.wait_for(SERVED, within_s=START_S)
        # The engine is killed while a run is under way: the run goes on with another one.
        with talking.stream("POST", CHAT, json=asked(stream=True)) as response:
            lines = response.iter_lines()
            next(lines)
            first = server.engine()
            os.kill(first, signal.SIGKILL)
            events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        assert not [event for event in events if "error" in event], events
        assert events[-1]["rlm"]["turns"] <= 3
        assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")
        assert server.engine() != first
        # A caller who hangs up takes his jail with him.
        with talking.stream("POST", CHAT, json=asked(stream=True)) as response:
            next(response.iter_lines())
            server.worker()
        eventually(lambda: not workers(server))
        eventually(lambda: talking.get("/ready").json()["runs"]["running"] == 0)
        # The engine itself keeps a schema.
        schema = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
        form = {"type": "json_schema", "json_schema": {"name": "stay", "schema": schema}}
        body = {"model": f"{MODEL}:direct", "messages": [{"role": "user", "content": "How long?"}], "max_tokens": 40}
        answer = talking.post(CHAT, json={**body, "response_format": form, "temperature": 0}).json()
        assert isinstance(json.loads(answer["choices"][0]["message"]["content"])["days"], int)
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
            server.worker()
            server.signal(signal.SIGTERM)
            server.wait_for('"stopping"')
            server.signal(signal.SIGINT)
            assert server.wait() == 128 + signal.SIGINT
        assert server.left() == []


def test_a_signal_while_the_model_is_loaded_ends_the_server(installation: Installation) -> None:
    with installation.serve() as server:
        eventually(lambda: [each for each in server.started() if "engine.llama.service" in each.command], START_S)
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert server.left() == []
