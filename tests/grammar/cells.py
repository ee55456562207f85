"""Cells as roots write them, and cells that no Python compiles: one table for every dialect.

NAMED_TWICE does not compile either, but it takes more than rules to refuse it (rlm_local/grammar/distinct.py).
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def _cells(name: str) -> list[str]:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return [cell.strip("\n") for cell in text.split("\n# ---\n") if cell.strip()]


ACCEPTED = _cells("cells_accepted.txt") + _cells("cells_turns.txt")
REFUSED = _cells("cells_refused.txt")
NAMED_TWICE = _cells("cells_named_twice.txt")
