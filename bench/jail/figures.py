"""What `python -m bench jail` finds: samples with their goal, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.output import write_result
from bench.provenance import Provenance

PAGE = "report.md"


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured again and again. Without samples it was left out, and `remark` says why."""

    name: str
    unit: str
    samples: tuple[float, ...]
    goal: float | None = None  # at most, of the median
    remark: str = ""

    @property
    def is_met(self) -> bool:
        return self.goal is None or bool(self.samples and median(self.samples) <= self.goal)

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table: name, median, nine in ten below, least, samples, goal."""
        if not self.samples:
            return self.name, f"left out: {self.remark}", "", "", "0", ""
        ordered = sorted(self.samples)
        ninth = ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]
        goal = "" if self.goal is None else f"{self.goal:g} {self.unit}, {'met' if self.is_met else 'missed'}"
        figures = (f"{_rounded(value)} {self.unit}" for value in (median(ordered), ninth, ordered[0]))
        return f"{self.name}{f' ({self.remark})' if self.remark else ''}", *figures, str(len(ordered)), goal


def _rounded(value: float) -> str:
    """Return three figures, and all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def lines(figures: Sequence[Figure]) -> list[str]:
    """Return a table of figures in Markdown."""
    return [
        "| | median | 9 of 10 below | least | samples | goal |",
        "| --- | --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(figure.cells())} |" for figure in figures),
    ]


def write(
    folder: Path,
    title: str,
    sections: Mapping[str, Sequence[Figure]],
    made: Provenance,
    setting: Mapping[str, str],
    remarks: Sequence[str] = (),
) -> None:
    """Write report.md and result.json into the folder."""
    told: dict[str, Any] = {
        "sections": {name: [asdict(figure) for figure in figures] for name, figures in sections.items()},
        "setting": dict(setting),
        "remarks": list(remarks),
    }
    write_result(told, folder, made)
    page = [f"# {title}", ""]
    for name, figures in sections.items():
        page += [f"## {name}", "", *lines(figures), ""]
    page += [*(f"{remark}\n" for remark in remarks), "## Made with", "", "| | |", "| --- | --- |"]
    page += [f"| {name} | {value} |" for name, value in [*made.facts(), *setting.items()]]
    (folder / PAGE).write_text("\n".join([*page, ""]), encoding="utf-8")
