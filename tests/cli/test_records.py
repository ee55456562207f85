"""--state: which folder is a server's, and that commands which only read leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cli.main import main
from rlm_local.server.database import Database

Mistaken = Callable[..., Any]
READ = [["runs"], ["keys", "list"], ["keys", "revoke", "key-0"], ["stop", "run-0"]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which is empty, and beside it a home in which no server has been."""
    monkeypatch.setenv("RLM_LOCAL_HOME", str(tmp_path / "home"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("command", READ)
@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_that_is_no_servers_is_told_and_left_as_it_is(
    command: list[str], is_there: bool, here: Path, mistake: Mistaken
) -> None:
    if is_there:
        (here / "typo").mkdir()
    said = mistake(*command, "--state", "typo")
    assert (said.exit_code, said.error) == (2, "typo is no folder of a server: it has no server.db")
    assert "`rlm-local serve --state`" in said.hint
    assert [path.name for path in here.rglob("*")] == ["typo"] * is_there


@pytest.mark.parametrize(
    ("command", "exit_code"), [(["runs"], 0), (["keys", "list"], 0), (["keys", "revoke", "key-0"], 2)]
)
def test_where_no_server_has_been_nothing_is_listed_and_nothing_is_made(
    command: list[str], exit_code: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == exit_code
    assert capsys.readouterr().out == ""
    assert not (here.parent / "home").exists()


@pytest.mark.parametrize("command", [*READ, ["ps"], ["keys", "add", "ada"], ["serve"], ["ask", "q", "-"]])
@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("", "--state is empty"),
        ("file.txt", "--state is 'file.txt', but must be a folder, and file.txt is none"),
        ("file.txt/x", "--state is 'file.txt/x', but must be a folder, and "),
    ],
)
def test_what_is_no_folder_is_told_in_one_sentence(
    command: list[str], state: str, error: str, here: Path, mistake: Mistaken
) -> None:
    (here / "file.txt").write_text("x")
    said = mistake(*command, "--state", state)
    assert said.exit_code == 2
    assert said.error.startswith(error)
    assert said.hint
    assert [path.name for path in here.rglob("*")] == ["file.txt"]


@pytest.mark.parametrize("command", [["keys", "revoke"], ["stop"]])
def test_an_id_that_is_no_text_is_none_that_there_is(command: list[str], here: Path, mistake: Mistaken) -> None:
    Database(here / "new").close()
    said = mistake(*command, os.fsdecode(b"\xff"), "--state", "new")
    assert said.exit_code == 2
    assert "'\ufffd'" in said.error


def test_a_name_that_no_file_can_have_is_told(here: Path, mistake: Mistaken) -> None:
    said = mistake("runs", "--state", "x" * 300)
    assert (said.exit_code, said.hint) == (2, "name it shorter")
    assert "File name too long" in said.error


def test_more_runs_than_sqlite_can_count_are_refused(here: Path, mistake: Mistaken) -> None:
    said = mistake("runs", "-n", "9" * 20)
    assert (said.exit_code, said.error) == (2, f"invalid value for '-n': {'9' * 20} is not in the range 1<=x<=1000000")


def test_a_folder_with_keys_is_a_servers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "add", "ada", "--state", "new"]) == 0
    assert main(["keys", "list", "--state", "new"]) == 0
    assert capsys.readouterr().out.endswith("  ada  ada\n")
    assert main(["runs", "--state", "new"]) == 0
