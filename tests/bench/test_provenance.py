"""What a report says of how it was made."""

from __future__ import annotations

import sys

import pytest

from bench.provenance import command_line


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
