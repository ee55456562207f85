"""The page of threats names tests, and groups of payloads, that exist."""

from __future__ import annotations

import re
from pathlib import Path

from rlm_local.attack import groups
from rlm_local.rooms import room

HERE = Path(__file__).parent


def test_every_covered_threat_names_a_test_that_exists() -> None:
    covered, _ = (room("sandbox") / "THREATS.md").read_text(encoding="utf-8").split("## Not covered")
    rows = [line for line in covered.splitlines() if line.startswith("| ") and not line.startswith("| threat ")]
    assert rows
    for row in rows:
        named, attacked = re.findall(r"`(\w+)::(\w+)`", row), re.findall(r"`attack (\w+)`", row)
        assert named, row
        assert set(attacked) <= set(groups()), row
        for file, name in named:
            source = (HERE / f"test_{file}.py").read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def test_{name}\(", source, re.MULTILINE), f"{file}::{name}"


def test_every_group_of_payloads_stands_against_a_threat() -> None:
    page = (room("sandbox") / "THREATS.md").read_text(encoding="utf-8")
    assert [group for group in groups() if f"`attack {group}`" not in page] == []
