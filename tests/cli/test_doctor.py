"""`rlm-local doctor`: every layer by its name, and for what is missing the repair and an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlm_local.cli.doctor import loading_fails
from rlm_local.cli.main import main

LAYERS = {
    "jail starts",
    "user namespace",
    "network namespace",
    "mount namespace",
    "pid namespace",
    "no new privileges",
    "capabilities",
    "seccomp filters",
    "no sockets",
    "file system",
    "read-only interpreter",
    "seccomp stage 1",
    "seccomp stage 2",
    "no new code",
    "rlimits",
}
HOST = {"rlm-local", "machine", "CPU engine", "model store", "default model", "platform", "nsjail"}


@pytest.mark.jail
def test_a_machine_with_a_jail_passes_and_every_layer_is_told(
    nsjail: None, toy_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["doctor", "--json"])
    out, err = capsys.readouterr()
    checks = {check["name"]: check for check in json.loads(out)}
    if not checks["jail starts"]["ok"]:
        pytest.skip(f"{checks['jail starts']['detail']} ({checks['jail starts']['hint']})")
    assert (code, err) == (0, "")
    assert set(checks) >= LAYERS | HOST
    assert [name for name in LAYERS if not checks[name]["ok"]] == []
    assert all(set(check) == {"name", "ok", "detail", "required", "hint"} for check in checks.values())


@pytest.mark.jail
def test_a_default_model_that_is_not_pulled_is_told_and_is_no_failure(
    nsjail: None, toy_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.split()[1:3] == ["default", "model"]]
    assert lines[at].startswith("without  default model")
    assert lines[at + 1].strip() == "hint: run `rlm-local pull qwen2.5-coder-1.5b`"


def test_without_an_nsjail_doctor_names_it_with_the_repair_and_fails(
    toy_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", "/nonexistent")
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    *_, missing, hint = out.splitlines()
    assert missing.split(maxsplit=2) == [
        "MISSING",
        "nsjail",
        "RLM_LOCAL_NSJAIL names /nonexistent, but no file is there",
    ]
    assert (hint.strip(), err) == ("hint: correct or unset it", "")


def test_an_nsjail_that_is_another_program_is_told_from_the_jail_that_did_not_start(
    toy_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", "/bin/true")
    assert main(["doctor", "--json"]) == 1
    last = json.loads(capsys.readouterr().out)[-1]
    assert (last["name"], last["ok"]) == ("jail starts", False)
    assert last["hint"].startswith("unset RLM_LOCAL_NSJAIL")


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("kill -ILL $$", "it is killed by SIGILL"),  # a wheel that was built for another processor
        ("echo Traceback >&2; echo 'OSError: no libgomp.so.1' >&2; exit 1", "OSError: no libgomp.so.1"),
        ("exit 7", "exit code 7"),
        ("exit 0", ""),
    ],
)
def test_an_engine_that_does_not_load_is_told_by_how_it_ends(act: str, told: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{act}\n")
    python.chmod(0o755)
    assert loading_fails(str(python)) == told
