"""Many runs as one report: a page in Markdown, and the same with plots as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from bench.compare import Finished, compare_runs, comparison_line
from bench.lines_chart import cost_chart, score_chart
from bench.measured import Measured

HEADS = (
    *("arm", "model", "score", "tasks", "right", "answered", "refused", "failed"),
    *("tokens p25 / p50 / p75 / p95", "cached", "sub-calls p50 / p95", "seconds p50 / p95", "labelled right"),
)
COSTS = (("tokens of a task", "tokens", "total_tokens"), ("seconds of a task", "s", "wall_s"))
MEASURED = "Speed, load and the jail"
BASE = "rlm"  # the arm that the others are compared with


def write_report(runs: Sequence[Finished], folder: Path, measured: Sequence[Measured] = ()) -> list[Path]:
    """Write report.md and report.html into the folder, and return where they are.

    What a person has written in notes.md there, on what the traces say, comes first. measured: of what runs no tasks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, site, notes = folder / "report.md", folder / "report.html", folder / "notes.md"
    said = notes.read_text(encoding="utf-8").strip() if notes.is_file() else ""
    page.write_text(markdown(runs, measured, said), encoding="utf-8")
    site.write_text(html(runs, measured, said), encoding="utf-8")
    return [page, site]


def groups(runs: Sequence[Finished]) -> dict[tuple[str, int, int], list[Finished]]:
    """Return the runs of the same tasks together: by family, tokens and seed."""
    found: dict[tuple[str, int, int], list[Finished]] = {}
    for run in sorted(runs, key=lambda one: (*one.key, one.result["model"], one.result["arm"])):
        found.setdefault(run.key, []).append(run)
    return found


def markdown(runs: Sequence[Finished], measured: Sequence[Measured] = (), notes: str = "") -> str:
    lines = ["# Arms side by side", "", *([notes, ""] if notes else [])]
    for (task, tokens, seed), own in groups(runs).items():
        lines += [f"## {task}, {tokens:,} tokens, seed {seed}", "", *_table(own), "", *_floor_lines(own)]
        lines += [*_comparisons(own), "", *_kinds(own), ""]
    if measured:
        lines += [f"## {MEASURED}", ""]
    for one in measured:
        lines += [f"### {one.name}", "", one.page, ""]
    lines += ["## Made with", "", "| run | command | began | commit | weights | profile | grammar | data |"]
    lines += ["|" + " --- |" * 8]
    lines += [_row(_made(run)) for run in runs]
    return "\n".join([*lines, ""])


def _table(runs: Sequence[Finished]) -> list[str]:
    return [_row(HEADS), "|" + " --- |" * len(HEADS), *(_row(cells(run)) for run in runs)]


def cells(run: Finished) -> tuple[str, ...]:
    """Return what a run came to, in the order of HEADS."""
    total, result = run.summary, run.result
    spread = total["spread"]
    cached = total["cached_tokens"] / total["prompt_tokens"] if total["prompt_tokens"] else 0.0
    labelled = f"{total['labelled_right']} of {total['labelled']}" if total["labelled"] else ""
    asked = "" if total["done"] == result["tasks"] else f" of {result['tasks']} (interrupted)"
    return (
        *(result["arm"], result["model"], f"**{total['score']:.3f}**", f"{total['done']}{asked}", f"{total['right']}"),
        *(f"{total['answered']}", f"{total['refused']}", f"{total['failed']}"),
        " / ".join(f"{spread['total_tokens'][part]:,.0f}" for part in ("p25", "p50", "p75", "p95")),
        f"{100 * cached:.0f} %",
        " / ".join(f"{spread['subcalls'][part]:,.0f}" for part in ("p50", "p95")),
        " / ".join(f"{spread['wall_s'][part]:,.1f}" for part in ("p50", "p95")),
        labelled,
    )


def _floor_lines(runs: Sequence[Finished]) -> list[str]:
    floors = {name: points for run in runs for name, points in run.summary["floors"].items()}
    return [f"- floor, {name}: {points:.3f}" for name, points in sorted(floors.items())]


def _comparisons(runs: Sequence[Finished]) -> list[str]:
    bases = [run for run in runs if run.result["arm"] == BASE and run.scores()]
    paired = [
        (other, base)
        for base in bases
        for other in runs
        if other is not base and other.result["model"] == base.result["model"] and other.scores()
    ]
    return [f"- {comparison_line(other, base, compare_runs(other, base))}" for other, base in paired]


def _kinds(runs: Sequence[Finished]) -> list[str]:
    names = sorted({kind for run in runs for kind in run.summary["score_by_kind"]})
    if len(names) < 2:
        return []
    head = ("score by kind of question", *(run.title for run in runs))
    rows = [(name, *(f"{run.summary['score_by_kind'].get(name, float('nan')):.3f}" for run in runs)) for name in names]
    return [_row(head), "|" + " --- |" * len(head), *map(_row, rows)]


def _made(run: Finished) -> tuple[str, ...]:
    result, made = run.result, run.result["provenance"]
    profile = f"{result['profile']} {result['profile_sha256'][:12]}" if result["profile"] else "none"
    grammar = f"{result['grammar']} {result['grammar_sha256'][:12]}"
    data = ", ".join(f"{name} {digest[:12]}" for name, digest in result["data_sha256"].items())
    weights = result["weights_sha256"][:12]
    return run.name, f"`{made['command']}`", made["began"], made["commit"][:12], weights, profile, grammar, data


def html(runs: Sequence[Finished], measured: Sequence[Measured] = (), notes: str = "") -> str:
    """Return the report with plots, as one file. Pages that are Markdown stand in it as they are."""
    body = ["<h1>Arms side by side</h1>", *([_as_it_is(notes)] if notes else [])]
    by_task: dict[str, list[Finished]] = {}
    for run in runs:
        by_task.setdefault(run.result["task"], []).append(run)
    for task, own in sorted(by_task.items()):
        lines: dict[str, list[tuple[int, float]]] = {}
        for run in own:
            lines.setdefault(run.title, []).append((run.result["tokens"], run.summary["score"]))
        body += [f"<h2>{escape(task)}</h2>", score_chart(f"{task}: score against length", lines)]
        for (_, tokens, seed), same in groups(own).items():
            body.append(f"<h3>{tokens:,} tokens, seed {seed}</h3>")
            body.append(_html_table(HEADS, (cells(run) for run in same)))
            body += [f"<p>{escape(line.removeprefix('- '))}</p>" for line in (*_floor_lines(same), *_comparisons(same))]
            for title, unit, name in COSTS:
                body.append(cost_chart(title, unit, {run.title: run.summary["spread"][name] for run in same}))
    if measured:
        body.append(f"<h2>{MEASURED}</h2>")
    for one in measured:
        body += [f"<h3>{escape(one.name)}</h3>", _as_it_is(one.page)]
    heads = ("run", "command", "began", "commit", "weights", "profile", "grammar", "data")
    body += ["<h2>Made with</h2>", _html_table(heads, map(_made, runs))]
    style = (
        "body{font:14px sans-serif;max-width:1100px;margin:2em auto;color:#1f2933}table{border-collapse:collapse}"
        "td,th{border:1px solid #cbd2d9;padding:4px 8px;text-align:left;vertical-align:top}"
        "svg{display:block;margin:1em 0}pre{white-space:pre-wrap;background:#f5f7fa;padding:1em}"
    )
    head = f'<meta charset="utf-8"><title>Arms side by side</title><style>{style}</style>'
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>", ""])


def _as_it_is(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _html_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    told = ("".join(f"<td>{escape(cell.replace('**', '').strip('`'))}</td>" for cell in row) for row in rows)
    return f"<table><tr>{top}</tr>" + "".join(f"<tr>{row}</tr>" for row in told) + "</table>"


def _row(many: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in many)} |"
