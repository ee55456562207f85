"""`rlm-local doctor`: every layer by its name, and for what is missing the repair and an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("/nonexistent", "RLM_LOCAL_NSJAIL names /nonexistent, but no file is there"),
        ("nsjail", "RLM_LOCAL_NSJAIL is 'nsjail', but must be an absolute path"),
    ],
)
def test_without_an_nsjail_doctor_names_it_with_the_repair_and_fails(
    named: str, said: str, toy_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", named)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    *_, missing, hint = out.splitlines()
    assert missing.split(maxsplit=2) == ["MISSING", "nsjail", said]
    assert (hint.strip(), err) == ("hint: correct or unset it", "")


def test_an_nsjail_that_is_another_program_is_told_from_the_jail_that_did_not_start(
    toy_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", "/bin/true")
    assert main(["doctor", "--json"]) == 1
    last = json.loads(capsys.readouterr().out)[-1]
    assert (last["name"], last["ok"]) == ("jail starts", False)
    assert last["hint"].startswith("unset RLM_LOCAL_NSJAIL")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("home", "name", "detail", "hint"),
    [
        (
            "/proc/none",
            "model store",
            "/proc/none/weights cannot be written to: ",
            "mend the permissions of /proc, or ",
        ),
        ("/proc/none", "traces", "/proc/none/traces cannot be written to: ", "mend the permissions of /proc, or "),
        ("/dev/null", "model store", "RLM_LOCAL_HOME is '/dev/null', but must be a folder", "name another one in"),
        ("/dev/null/x", "model store", "RLM_LOCAL_HOME is '/dev/null/x', but must be a folder", "name another one in"),
        ("here", "model store", "RLM_LOCAL_HOME is 'here', but must be an absolute path", "correct or unset it"),
    ],
)
def test_a_home_that_cannot_be_used_is_a_line_of_the_table(
    home: str,
    name: str,
    detail: str,
    hint: str,
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RLM_LOCAL_HOME", home)
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", "/nonexistent")  # the jail is not looked at: it does not depend on this
    assert main(["doctor", *(["--json"] if as_json else [])]) == 1
    assert_told(capsys, name, detail, hint, as_json=as_json)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_bad_card_is_a_line_of_the_table(
    toy_home: Path, as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", "/nonexistent")
    card = toy_home / "models" / "bad.toml"
    card.write_text('name = "bad"\n')
    assert main(["doctor", *(["--json"] if as_json else [])]) == 1
    assert_told(
        capsys, "model cards", f"{card}: aliases is missing", "mend that card, or take it away", as_json=as_json
    )


def assert_told(capsys: pytest.CaptureFixture[str], name: str, detail: str, hint: str, *, as_json: bool) -> None:
    """Assert that the table has all its lines and one of them tells of this as missing."""
    out, err = capsys.readouterr()
    assert err == ""
    if as_json:
        checks = {check["name"]: check for check in json.loads(out)}
        assert {"rlm-local", "machine", "nsjail"} <= set(checks)
        told = checks[name]
        assert (told["ok"], told["required"]) == (False, True)
        assert told["detail"].startswith(detail)
        assert told["hint"].startswith(hint)
        return
    lines = out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith(f"MISSING  {name} ")]
    assert detail in lines[at]
    assert lines[at + 1].strip().startswith(f"hint: {hint}")


def test_a_manifest_that_cannot_be_read_is_told_by_its_path(toy_home: Path, mistake: Callable[..., Any]) -> None:
    manifest = toy_home / "weights" / "toy" / "llama" / "manifest.json"
    manifest.unlink()
    manifest.mkdir()
    said = mistake("verify", "toy")
    assert (said.exit_code, said.error) == (1, f"{manifest} cannot be read: Is a directory")
    assert said.hint


@pytest.mark.parametrize("command", [["ask", "q", "-"], ["verify"], ["serve"], ["list"]])
def test_a_home_that_is_a_file_is_named_by_every_command(
    command: list[str], mistake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_LOCAL_HOME", "/dev/null")
    said = mistake(*command)
    assert (said.exit_code, said.error) == (
        2,
        "RLM_LOCAL_HOME is '/dev/null', but must be a folder, and /dev/null is none",
    )


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
