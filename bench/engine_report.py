"""What `python -m bench engine` says, as lines, JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EngineResult:
    model: str
    weights_sha256: str
    scale: float  # of the sizes that the report of record uses
    lines: Sequence[Line]
    provenance: Provenance

    def text(self) -> list[str]:
        width = max((len(line.name) for line in self.lines), default=0)
        return [f"{line.name:{width}}  {line.value}  {line.detail}".rstrip() for line in self.lines]

    def markdown(self) -> str:
        facts = [
            *self.provenance.facts(),
            ("weights", f"sha256 {self.weights_sha256}"),
            ("scale", f"{self.scale} of the full sizes"),
        ]
        return "\n".join(
            [
                f"# engine, {self.model}",
                "",
                "| measured | | |",
                "| --- | --- | --- |",
                *(f"| {line.name} | {line.value} | {line.detail} |" for line in self.lines),
                "",
                "| made with | |",
                "| --- | --- |",
                *(f"| {name} | {value} |" for name, value in facts),
                "",
            ]
        )

    def write(self, folder: Path) -> None:
        """Write result.json and result.md into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        (folder / "result.md").write_text(self.markdown(), encoding="utf-8")
