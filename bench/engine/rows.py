"""What was measured, one JSON file each, so that a long run can be stopped and gone on with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Row:
    measurement: str
    contestant: str  # who or what was measured, with its settings
    round: int  # from 1; repetitions of the same
    model: str
    weights_sha256: str
    scale: float  # share of the full number of requests
    figures: dict[str, Any]
    provenance: Provenance

    @property
    def file(self) -> str:
        """The name of the row's file: readable, and different for different rows."""
        parts = (self.measurement, self.contestant, str(self.round))
        return "__".join(re.sub(r"[^A-Za-z0-9.=-]+", "_", part) for part in parts) + ".json"


class Rows:
    """The rows of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "rows"
        self._folder.mkdir(parents=True, exist_ok=True)

    def add(self, row: Row) -> None:
        """Write a row; it is there whole or not at all."""
        path = self._folder / row.file
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(row), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.rename(path)

    def of(self, measurement: str) -> list[Row]:
        """Return a measurement's rows, round after round."""
        return sorted((r for r in self if r.measurement == measurement), key=lambda r: (r.round, r.contestant))

    def __iter__(self) -> Iterator[Row]:
        for path in sorted(self._folder.glob("*.json")):
            fields = json.loads(path.read_text(encoding="utf-8"))
            yield Row(**{**fields, "provenance": Provenance(**fields["provenance"])})
