"""Cells as roots write them, and cells that no Python compiles: one table for every dialect."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def _cells(name: str) -> list[str]:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return [cell.strip("\n") for cell in text.split("\n# ---\n") if cell.strip()]


ACCEPTED = _cells("cells_accepted.txt")
REFUSED = _cells("cells_refused.txt")
