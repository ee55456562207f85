"""The page of threats names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from rlm_local.rooms import room

HERE = Path(__file__).parent


def test_every_covered_threat_names_a_test_that_exists() -> None:
    covered, _ = (room("sandbox") / "THREATS.md").read_text(encoding="utf-8").split("## Not covered")
    rows = [line for line in covered.splitlines() if line.startswith("| ") and not line.startswith("| threat ")]
    assert rows
    for row in rows:
        named = re.findall(r"`(\w+)::(\w+)`", row)
        assert named, row
        for file, name in named:
            source = (HERE / f"test_{file}.py").read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def test_{name}\(", source, re.MULTILINE), f"{file}::{name}"
