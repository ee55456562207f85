"""Peers as arms: whatever their process does, a task ends, is charged, and leaves nothing running."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from bench.arms.peer import PEERS, Peer, PeerArm
from bench.provenance import ROOT
from bench.rows import Outcome, Row, run_task
from bench.tasks.scoring import string_match_all
from bench.tasks.task import Task
from rlm_local.errors import ConfigError, EngineUnavailable
from rlm_local.limits import Limits
from rlm_local.testing import AnsweringEngine, ScriptedEngine
from rlm_local.types import Completion, Document, Role, Sampling, StopReason, Usage

LIMITS = Limits(turn_tokens=100, subcall_tokens=50, answer_tokens=50)
FILLER = "The grass is green and the sky is blue. " * 100
TASK = Task(
    family="niah",
    index=0,
    kind="needle",
    documents=(Document("a.txt", f"{FILLER}The harbour's number is 1234567. {FILLER}"),),
    question="What is the harbour's number?",
    gold="1234567",
    scorer=string_match_all,
)
# A peer of a few lines: ask() is a request to the engine, say() one line to the host.
PRELUDE = """
import json, os, sys, time, urllib.error, urllib.request
from http.client import HTTPConnection
import socket

def say(**what):
    print(json.dumps(what), flush=True)

def ask(text, model=None, **more):
    body = {"model": model or task["model"], "messages": [{"role": "user", "content": text}], **more}
    connection = HTTPConnection("engine")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(task["socket"])
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    answer = json.loads(connection.getresponse().read())
    return answer["choices"][0]["message"]["content"] if "choices" in answer else answer["error"]["message"]

say(ready="fake")
task = json.load(sys.stdin)
"""


def arm(tmp_path: Path, engine: ScriptedEngine, body: str, **limits: object) -> PeerArm:
    side = tmp_path / "sides" / "fake_side.py"
    side.parent.mkdir()
    side.write_text(PRELUDE + textwrap.dedent(body), encoding="utf-8")
    environment = Path(sys.executable).parent.parent
    fake = Peer("fake", "click", side, "none", environment, "bench-fake")
    return PeerArm(fake, engine, replace(LIMITS, **limits), Sampling(), tmp_path / "traces")


async def run(tmp_path: Path, engine: ScriptedEngine, body: str, **limits: object) -> Row:
    return await run_task(TASK, arm(tmp_path, engine, body, **limits))


@pytest.mark.jail
async def test_a_peer_gets_the_task_and_is_charged_for_what_it_asked(tmp_path: Path, nsjail: None) -> None:
    engine = ScriptedEngine(["a turn", "a sub-call"])
    body = """
        first = ask("one", max_completion_tokens=10_000)
        second = ask(task["question"], model=task["sub_model"], max_tokens=7)
        found = task["context"].partition("number is ")[2][:7]
        say(answer=f"{found} {first}, {second}", stop="final", turns=1)
    """
    row = await run(tmp_path, engine, body)
    assert row.answer == "1234567 a turn, a sub-call"
    assert (row.outcome, row.turns, row.subcalls, row.stop) == (Outcome.RIGHT, 1, 1, StopReason.FINAL)
    assert row.usage == Usage(prompt_tokens=1 + 8, cached_tokens=0, completion_tokens=20)
    assert [one.max_tokens for one in engine.completions] == [LIMITS.turn_tokens, 7]
    assert "its own answer, after 1 turns; ready after " in row.detail
    assert len((tmp_path / "traces/task-001.calls.jsonl").read_text("utf-8").splitlines()) == 2


@pytest.mark.jail
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise ValueError('a bug of its own')", "crashed, status 1: ValueError: a bug of its own"),
        ("os._exit(3)", "crashed, status 3"),
        ("say(answer='1234567')", "said what is no answer: KeyError('stop')"),
        ("say(answer='1234567', stop='fine', turns=1)", "said what is no answer: ValueError"),
        ("print('1234567', flush=True); time.sleep(1e6)", "said what is no answer"),
        ("print('x' * (2 << 20), flush=True); time.sleep(1e6)", "said what is no answer"),
    ],
)
async def test_a_peer_that_breaks_has_no_answer(tmp_path: Path, nsjail: None, body: str, told: str) -> None:
    row = await run(tmp_path, ScriptedEngine([]), body)
    assert (row.outcome, row.answer, row.stop) == (Outcome.WRONG, "", StopReason.CANCELLED)
    assert not row.is_answered
    assert told in row.detail


@pytest.mark.jail
async def test_a_peer_that_hangs_is_ended_at_the_time_limit(tmp_path: Path, nsjail: None) -> None:
    row = await run(tmp_path, ScriptedEngine([]), "time.sleep(1e6)", wall_s=0.3)
    assert (row.answer, row.stop) == ("", StopReason.TIME_LIMIT)
    assert "ended from outside at the time limit" in row.detail


@pytest.mark.jail
async def test_at_a_limit_all_that_a_peer_started_ends_with_it(tmp_path: Path, nsjail: None) -> None:
    mark = f"mark-{uuid4().hex}"
    seen: list[int] = []

    def reply(completion: Completion) -> str:
        seen.append(len(processes_of(mark)))
        return "go on"

    body = f"""
        import subprocess
        for apart in (False, True):
            command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(1e6)", {mark!r}]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=apart)
            child.stdout.readline()
        while True:
            ask("more")
    """
    row = await run(tmp_path, AnsweringEngine(reply), body, max_tokens=250)
    assert seen[0] == 2
    assert processes_of(mark) == []
    assert (row.answer, row.stop) == ("", StopReason.TOKEN_LIMIT)
    assert 0 < row.usage.total_tokens <= 250


@pytest.mark.jail
def test_a_peer_dies_with_a_bench_that_is_killed(tmp_path: Path, nsjail: None) -> None:
    mark = f"mark-{uuid4().hex}"
    (tmp_path / "fake_side.py").write_text(
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', 'print(1, flush=True); import time; time.sleep(1e6)', {mark!r}])\n"
        "sys.stdin.read()\n",
        encoding="utf-8",
    )
    bench = f"""
import asyncio, sys
from pathlib import Path
from bench.arms.confined import PeerProcess
async def main():
    python, folder = Path(sys.executable), Path({str(tmp_path)!r})
    peer = await PeerProcess.start(python, folder / "fake_side.py", folder, cpu_s=60)
    await peer.heard()
    print("heard", flush=True)
    await asyncio.sleep(1e6)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", bench], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"heard\n"
        assert len(processes_of(mark)) == 1
        process.kill()
    deadline = time.monotonic() + 60
    while processes_of(mark):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def processes_of(mark: str) -> list[str]:
    """Return the processes, but nsjail itself, with the mark among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if mark in arguments:
            found.append(path.parent.name)
    return found


@pytest.mark.jail
async def test_a_peer_sees_no_file_of_the_user_and_no_network_but_its_own(tmp_path: Path, nsjail: None) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("kept", encoding="utf-8")
    body = f"""
        def tried(what):
            try:
                what()
                return "done"
            except OSError as error:
                return type(error).__name__
        say(stop="final", turns=0, answer=" ".join([
            tried(lambda: open({str(secret)!r})),
            tried(lambda: open({__file__!r})),
            tried(lambda: open("/side/bench/peers/new.py", "w")),
            tried(lambda: open("/environment/new.py", "w")),
            tried(lambda: open("/engine/new", "w")),
            tried(lambda: open("/tmp/new", "w")),
            tried(lambda: socket.create_connection(("127.0.0.1", PORT), timeout=5)),
        ]))
    """
    with socket.create_server(("127.0.0.1", 0)) as host:
        row = await run(tmp_path, ScriptedEngine([]), body.replace("PORT", str(host.getsockname()[1])))
    no_file, read_only = "FileNotFoundError", "OSError"
    assert row.answer.split() == [no_file, no_file, *[read_only] * 3, "done", "ConnectionRefusedError"]


@pytest.mark.jail
async def test_a_roots_request_that_is_too_long_is_told_as_that(tmp_path: Path, nsjail: None) -> None:
    body = "raise RuntimeError(ask(task['context']))"
    row = await run(tmp_path, ScriptedEngine(["never"], window_tokens=1_024), body)
    assert row.stop is StopReason.WINDOW_LIMIT
    assert "fake 8" in row.detail  # the version of the package that stands in for a peer's
    assert "but the window holds 1024" in row.detail


@pytest.mark.jail
async def test_sub_calls_above_the_limit_are_refused_and_the_run_goes_on(tmp_path: Path, nsjail: None) -> None:
    body = """
        said = [ask("x", model=task["sub_model"]) for _ in range(2)]
        say(answer="; ".join(said), stop="turn_limit", turns=3)
    """
    row = await run(tmp_path, ScriptedEngine(["yes", "never"]), body, max_subcalls=1)
    assert row.answer == "yes; the run may make 1 sub-calls, and has made them"
    assert (row.subcalls, row.stop) == (1, StopReason.TURN_LIMIT)


@pytest.mark.jail
async def test_an_engine_that_fails_is_a_failure_of_ours(tmp_path: Path, nsjail: None) -> None:
    row = await run(tmp_path, ScriptedEngine([EngineUnavailable("it is gone")]), "ask('x'); time.sleep(1e6)")
    assert (row.outcome, row.detail) == (Outcome.FAILED, "EngineUnavailable: it is gone")


@pytest.mark.jail
async def test_a_peer_that_does_not_start_is_a_failure_of_ours(tmp_path: Path, nsjail: None) -> None:
    made = arm(tmp_path, ScriptedEngine([]), "")
    (tmp_path / "sides/fake_side.py").write_text("import no_such_package", encoding="utf-8")
    row = await run_task(TASK, made)
    assert row.outcome is Outcome.FAILED
    assert "fake did not start: status 1: ModuleNotFoundError: No module named 'no_such_package'" in row.detail


def test_a_peer_that_is_not_installed_is_refused_with_the_command_that_installs_it(tmp_path: Path) -> None:
    absent = replace(PEERS["rlms"], environment=tmp_path)
    with pytest.raises(ConfigError, match="does not hold rlms") as refused:
        PeerArm(absent, ScriptedEngine([]), LIMITS, Sampling())
    assert refused.value.hint == "make it: `make bench-rlms`"


# --- rlms ---------------------------------------------------------------------------------------------------


@pytest.fixture
def rlms() -> Peer:
    """Skips, with the reason, where rlms is not installed."""
    peer = PEERS["rlms"]
    try:
        assert peer.version
    except ConfigError as error:
        pytest.skip(f"{error} ({error.hint})")
    return peer


ANSWERS = "```repl\nimport re\nanswer['content'] = re.findall(r'\\d{7}', context)[0]\nanswer['ready'] = True\n```"


@pytest.mark.jail
async def test_rlms_runs_code_asks_a_sub_model_and_answers(rlms: Peer, nsjail: None) -> None:
    engine = ScriptedEngine(["```repl\nprint(len(context), llm_query('who?'))\n```", "me", ANSWERS])
    row = await run_task(TASK, PeerArm(rlms, engine, LIMITS, Sampling()))
    assert (row.outcome, row.answer, row.turns, row.subcalls) == (Outcome.RIGHT, "1234567", 2, 1)
    assert row.stop is StopReason.FINAL
    system, question = engine.completions[0].messages[:2]
    assert system.role is Role.SYSTEM
    assert "As an RLM, you should act as an orchestrator" in system.content
    assert TASK.question in question.content
    assert f"{len(TASK.documents[0].text)} me" in engine.completions[2].messages[-2].content
    assert [one.max_tokens for one in engine.completions] == [100, 50, 100]


@pytest.mark.jail
async def test_rlms_out_of_turns_is_asked_once_more_and_told_as_such(rlms: Peer, nsjail: None) -> None:
    engine = ScriptedEngine(["I wonder.", "I still wonder.", "Perhaps 1234567."])
    row = await run_task(TASK, PeerArm(rlms, engine, replace(LIMITS, max_turns=2), Sampling()))
    assert (row.answer, row.stop, row.turns) == ("Perhaps 1234567.", StopReason.TURN_LIMIT, 3)
    assert "out of turns" in row.detail
