"""The report of `python -m bench engine`: one page and one chart, made from the rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.engine.chart import Bar, Panel, svg
from bench.engine.contestants import OURS, best_settings
from bench.engine.measurement import Measurement
from bench.engine.rows import Row
from bench.engine.timing import floor_s, walls_of

PAGE, CHART = "report.md", "time.svg"
TIMED = ("fan-out", "trace", "classify")


def write_report(folder: Path, measurements: Mapping[str, Measurement], rows: Sequence[Row]) -> None:
    """Write report.md, and time.svg beside it when anything was timed."""
    panels = [panel for name in TIMED if (panel := _panel(measurements[name], _of(rows, name)))]
    lines = ["# The CPU engine, measured", ""]
    if panels:
        (folder / CHART).write_text(svg(panels), encoding="utf-8")
        lines += [f"![wall time of the timed workloads, ours, the peers and the floor]({CHART})", ""]
    for name, each in measurements.items():
        if found := _of(rows, name):
            models = ", ".join(sorted({row.model for row in found}))
            scales = "" if {row.scale for row in found} == {1.0} else f", scale {found[0].scale} of the full counts"
            lines += [f"## {each.title}", "", f"{models}{scales}", "", *each.report(found), ""]
    (folder / PAGE).write_text("\n".join([*lines, *_provenance(rows)]), encoding="utf-8")


def _of(rows: Sequence[Row], name: str) -> list[Row]:
    return sorted((row for row in rows if row.measurement == name), key=lambda r: (r.round, r.contestant))


def _panel(measurement: Measurement, rows: Sequence[Row]) -> Panel | None:
    bars = [
        Bar(name.partition(",")[0], median(walls))
        for name in (OURS, *best_settings(rows))
        if (walls := walls_of(rows, name))
    ]
    return Panel(measurement.name, "s", bars, floor_s(rows)) if bars else None


def _provenance(rows: Sequence[Row]) -> list[str]:
    """Return how the rows were made: each fact once, or every value that it had."""
    facts: dict[str, list[str]] = {}
    for row in rows:
        weights = (f"weights of {row.model}", f"sha256 {row.weights_sha256}")
        for name, value in [*row.provenance.facts(), weights]:
            known = facts.setdefault(name, [])
            if value not in known:
                known.append(value)
    if began := facts.get("began"):
        facts["began"] = [f"{min(began)} to {max(began)}"]
    servers = {row.figures["server"] for row in rows if "server" in row.figures} - {"rlm-local"}
    facts["peers"] = sorted(servers) or ["none"]
    return [
        "## Made with",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {'; '.join(values)} |" for name, values in facts.items()),
        "",
        "Rounds are interleaved: everybody is measured once before anybody is measured again. The first round tries "
        "every setting of the peers, later rounds the best of each. Peers speak over loopback, our engine over its "
        "unix socket. One JSON file for each row is in `rows/`.",
        "",
    ]
