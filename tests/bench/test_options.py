"""What the bench's options refuse before any work: folders that are none, programs that are not there, no numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import bench
from rlm_local.errors import ConfigError

COMMANDS = {
    "counts": ["--tokens", "1000"],
    "run": ["niah"],
    "report": ["somewhere"],
    "mechanics": ["pairs"],
    "series": ["bench/series.toml"],
    "tune": ["profile"],
    "engine": [],
    "jail": [],
    "grammar": [],
    "load": [],
}


def test_all_commands_with_a_result_take_the_same_kind_of_folder() -> None:
    kinds = {
        type(option.type).__name__
        for command in bench.commands.values()
        for option in command.params
        if option.name == "out"
    }
    assert kinds == {"Folder"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_place_of_the_results_folder_is_told_before_the_work(command: str, tmp_path: Path) -> None:
    file = tmp_path / "result"
    file.write_text("x")
    for out in (file, file / "below"):
        with pytest.raises(ConfigError, match=f"--out is '{out}', but must be a folder, and {file} is none"):
            CliRunner().invoke(bench, [command, *COMMANDS[command], "--out", str(out)], catch_exceptions=False)
    assert file.read_text() == "x"


def test_a_bubblewrap_that_is_not_there_is_told_before_the_work() -> None:
    ended = CliRunner().invoke(bench, ["jail", "--rounds", "1", "--bwrap", "/nope"])
    assert ended.exit_code == 2
    assert "'--bwrap': File '/nope' does not exist" in ended.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["mechanics", "pairs", "--accuracy", "nan"],
        ["counts", "--accuracy", "NaN"],
        ["jail", "--gib", "nan"],
        ["engine", "--out", "somewhere", "--minutes", "nan"],
    ],
)
def test_what_is_no_number_is_no_number_within_bounds(arguments: list[str]) -> None:
    ended = CliRunner().invoke(bench, arguments)
    assert ended.exit_code == 2
    assert "nan is not in the range" in ended.output.lower()
