"""`rlm-local attack`: what it prints, how it ends, and what it takes for a corpus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rlm_local.cli.main import main
from tests.interrupts import hear_interrupts

T = TypeVar("T")
END_S = 120.0  # generous for a busy machine


def corpus(path: Path, *payloads: dict[str, str]) -> str:
    path.write_text("".join(json.dumps(payload) + "\n" for payload in payloads), encoding="utf-8")
    return str(path)


@pytest.mark.jail
def test_payloads_of_a_users_own_are_told_one_by_one(
    nsjail: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = corpus(
        tmp_path / "own.jsonl",
        {"id": "says-it", "code": "print('P' + 'WN', 7)"},
        {"id": "quoted-only", "code": "raise ValueError  # PWN"},
        {"id": "answers-it", "code": "FINAL(['sec' + 'ret'])", "must_not_print": "secret"},
        {"id": "asks-it", "code": "llm_query('P' + 'WN')"},
        {"id": "dies", "code": "import os; os._exit(1)"},
        {"id": "quiet", "code": "print('hello')"},
    )
    assert main(["attack", "--corpus", own]) == 1
    out, err = capsys.readouterr()
    *escaped, counts, last = out.splitlines()
    assert escaped == [
        "NOT CONTAINED  corpus/says-it: it printed 'PWN 7'",
        "NOT CONTAINED  corpus/answers-it: it printed 'secret\"]'",
        "NOT CONTAINED  corpus/asks-it: it printed 'PWN'",
    ]
    assert counts == "corpus 3/6"
    assert last.startswith("3/6 contained in ")
    assert last.endswith(" s, nothing left")
    assert err == ""


@pytest.mark.jail
def test_json_tells_each_payload_and_the_machine(
    nsjail: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = corpus(tmp_path / "own.jsonl", {"id": "quiet", "code": "1"}, {"id": "dies", "code": "import os; os._exit(1)"})
    assert main(["attack", "--corpus", own, "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (report["contained"], report["of"], report["left"]) == (2, 2, [])
    assert report["machine"]["root"] is (os.geteuid() == 0)
    assert [(one["id"], one["ended"], one["went_on"]) for one in report["payloads"]] == [
        ("quiet", "ok", "next cell"),
        ("dies", "killed", "next cell"),
    ]


def test_the_payloads_are_listed_without_a_jail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", "--list", "--only", "network"]) == 0
    assert "network/tcp: connect to the listener on 127.0.0.1" in capsys.readouterr().out.splitlines()
    assert main(["attack", "--list", "--only", "network", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"id": "tcp", "group": "network", "aim": "connect to the listener on 127.0.0.1"} in listed


def test_a_mistake_is_one_sentence_with_its_line(mistake: Callable[..., Any], tmp_path: Path) -> None:
    own = corpus(tmp_path / "own.jsonl", {"id": "a", "code": "1"}, {"id": "b"})
    told = mistake("attack", "--corpus", own)
    assert told.exit_code == 2
    assert told.error == f"{own}, line 2: a payload is an object with id, code and, if you like, must_not_print"
    assert mistake("attack", "--only", "nets").error.startswith(
        "no group of attacks is named 'nets'; there are channel"
    )
    assert mistake("attack", "--only", "network", "--corpus", own).error.startswith("--only chooses a group")


@pytest.mark.jail
def test_ctrl_c_leaves_nothing(nsjail: None, tmp_path: Path) -> None:
    own = corpus(tmp_path / "own.jsonl", *({"id": f"endless-{n}", "code": "while True: pass"} for n in range(40)))
    command = [sys.executable, "-m", "rlm_local", "attack", "--corpus", own]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    workers = wait_for(lambda: workers_of(running.pid) if len(workers_of(running.pid)) >= 3 else [])
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=END_S)
    assert (running.returncode, out, err.strip()) == (130, "", "interrupted")
    wait_for(lambda: not any(lives(pid) for pid in workers))
    assert list(Path("/sys/fs/cgroup").glob(f"**/rlm-local.{running.pid}.*")) == []
    for folder in (tempfile.gettempdir(), "/dev/shm"):
        assert list(Path(folder).glob(f"rlm-local-attack.{running.pid}.*")) == []


def lives(pid: int) -> bool:
    """Whether a process is more than a name that nobody has asked after yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def workers_of(pid: int) -> list[int]:
    """Return the processes below pid that are jailed."""
    return [child for nsjail in children_of(pid) for child in children_of(nsjail)]


def children_of(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for text in lists for child in text.split()]


def wait_for(look: Callable[[], T]) -> T:
    deadline = time.monotonic() + END_S
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found
