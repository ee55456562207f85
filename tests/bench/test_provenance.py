"""What a report says of how it was made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.provenance import command_line, provenance


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "niah", "--out", "/home/ada/needles"], "run niah --out needles"),
        (["run", "niah", "--out=/home/ada/needles"], "run niah --out=needles"),
        (["run", "niah", "--data", "../shared/data", "--out", "results/a b"], None),
    ],
)
def test_a_command_names_no_place_of_this_machine(
    words: list[str], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    wanted = "run niah --data ../shared/data --out 'results/a b'" if told is None else told
    assert command_line() == f"python -m bench {wanted}"


def test_the_commit_tells_of_changed_code_and_not_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.provenance.ROOT", tmp_path)
    author = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    (tmp_path / "code.py").write_text("pass\n")
    for command in (["init", "-q"], ["add", "code.py"], [*author, "commit", "-q", "-m", "code"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    clean = provenance("").commit
    (tmp_path / "bench/results/new").mkdir(parents=True)
    (tmp_path / "bench/results/new/result.json").write_text("{}")
    assert provenance("").commit == clean
    (tmp_path / "code.py").write_text("print()\n")
    assert provenance("").commit == f"{clean}+changes"
