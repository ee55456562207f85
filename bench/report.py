"""A finished or interrupted run as JSON, as Markdown, and as plain lines while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.arms.build import RLM_ARMS
from bench.memory import METHOD
from bench.output import write_result
from bench.provenance import Provenance
from bench.rows import Outcome, Row
from bench.spread import spread
from bench.tasks.scoring import mean
from rlm_local.limits import Limits
from rlm_local.types import GrammarMode

SHOWN_ANSWER_CHARS = 80


@dataclass(frozen=True, slots=True)
class PeakBytes:
    """Peak memory of all our processes but the engine; see bench/memory.py for the two figures."""

    sampled: int
    bound: int


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one task kind by one arm."""

    task: str
    arm: str
    grammar: GrammarMode  # of the root's turns; off for a bare completion
    model: str
    tokens: int  # asked for; each row has its own count
    tasks: int  # asked for; fewer rows when interrupted
    seed: int
    window_tokens: int
    weights_sha256: str
    data_sha256: dict[str, str]
    peak: PeakBytes | None  # None where the kernel does not tell
    rows: tuple[Row, ...]
    provenance: Provenance
    limits: Limits = Limits()  # of each task, the same for every arm
    typed: bool = False  # whether answers were held to the task's schema
    profile: str = ""  # of the prompt; empty for an arm that has none
    profile_sha256: str = ""
    grammar_sha256: str = ""  # of an ordinary turn's; empty without one
    earlier: tuple[dict[str, Any], ...] = ()  # provenance of the commands that made rows before this one went on

    def as_object(self) -> dict[str, object]:
        """Return the result as `--json` prints it."""
        return {**asdict(self), "summary": self.summary(), "memory_method": METHOD}

    def is_over_budget(self, row: Row) -> bool:
        """Return whether a task went beyond its limits by more than one call, which may be as long as the window."""
        return (
            row.turns > self.limits.max_turns + 1
            or row.subcalls > self.limits.max_subcalls + 1
            or row.usage.total_tokens > self.limits.max_tokens + self.window_tokens
        )

    def summary(self) -> dict[str, object]:
        """Return the figures over all rows. `completed` counts tasks that came to an answer of any kind."""
        rows = self.rows
        return {
            "done": len(rows),
            "answered": sum(row.is_answered for row in rows),
            "right": _count(rows, Outcome.RIGHT),
            "partly": _count(rows, Outcome.PARTLY),
            "wrong": _count(rows, Outcome.WRONG),
            "refused": _count(rows, Outcome.REFUSED),
            "failed": _count(rows, Outcome.FAILED),
            "confirmed": sum(row.confirmed for row in rows),
            "failures": sum(row.is_failure for row in rows),
            "over_budget": sum(self.is_over_budget(row) for row in rows),
            "citations": sum(row.citations for row in rows),
            "verified": sum(row.verified for row in rows),
            "score": sum(row.score for row in rows) / len(rows) if rows else 0.0,
            "median_s": median(row.wall_s for row in rows) if rows else 0.0,
            "wall_s": sum(row.wall_s for row in rows),
            "turns": sum(row.turns for row in rows),
            "subcalls": sum(row.subcalls for row in rows),
            "prompt_tokens": sum(row.usage.prompt_tokens for row in rows),
            "cached_tokens": sum(row.usage.cached_tokens for row in rows),
            "completion_tokens": sum(row.usage.completion_tokens for row in rows),
            "document_bytes": max((row.document_bytes for row in rows), default=0),
            "floors": floors(rows),
            "score_by_kind": {kind: mean(row.score for row in rows if row.kind == kind) for kind in kinds(rows)},
            "labelled": sum(row.labelled for row in rows),
            "labelled_right": sum(row.labelled_right for row in rows),
            "spread": {
                "total_tokens": spread([row.usage.total_tokens for row in rows]),
                "subcalls": spread([row.subcalls for row in rows]),
                "wall_s": spread([row.wall_s for row in rows]),
            },
        }


def floors(rows: Sequence[Row]) -> dict[str, float]:
    """Return what answers without understanding would score, over the rows that have them."""
    names = sorted({name for row in rows for name in row.floors})
    return {name: mean(row.floors[name] for row in rows if name in row.floors) for name in names}


def kinds(rows: Sequence[Row]) -> list[str]:
    return sorted({row.kind for row in rows})


def row_line(row: Row, of: int) -> str:
    """Return one line for a task that has just ended."""
    usage = row.usage
    line = (
        f"task {row.number}/{of}  {row.outcome:7}  {row.wall_s:6.1f} s  turns {row.turns}  "
        f"tokens {usage.prompt_tokens} in ({usage.cached_tokens} cached), {usage.completion_tokens} out  "
        f"sub-calls {row.subcalls}  {row.kind}"
    )
    if row.outcome in (Outcome.WRONG, Outcome.PARTLY):
        return f"{line}: {row.score:.2f}, wanted {_shortened(row.gold)!r}, got {_shortened(row.answer)!r}"
    return line if row.outcome is Outcome.RIGHT else f"{line}  {row.detail}"


def summary_lines(result: Result) -> list[str]:
    """Return the plain lines that end a run."""
    total = result.summary()
    done, right = len(result.rows), total["right"]
    lines = [
        f"{result.task}, {result.arm}, grammar {result.grammar}, {result.model}, {result.tokens} tokens, "
        f"seed {result.seed}: "
        f"score {total['score']:.3f}, {right} of {done} right"
        + ("" if done == result.tasks else f" (interrupted: {result.tasks} were asked for)"),
        f"answered {total['answered']}, refused {total['refused']}, failed {total['failed']}, "
        f"confirmed {total['confirmed']}; "
        f"median {total['median_s']:.1f} s, together {total['wall_s']:.0f} s",
        f"tokens {total['prompt_tokens']} in ({total['cached_tokens']} cached), {total['completion_tokens']} out; "
        f"turns {total['turns']}, sub-calls {total['subcalls']}",
        *(run_lines(total) if result.arm in RLM_ARMS else []),
        *(f"floor, {name}: score {points:.3f}" for name, points in floors(result.rows).items()),
    ]
    if total["labelled"]:
        lines.append(f"items labelled right by sub-models: {total['labelled_right']} of {total['labelled']}")
    return [*lines, memory_line(result)] if done else lines


def run_lines(total: Mapping[str, object]) -> list[str]:
    """Return what only the runtime's own runs have to hold, from a summary."""
    return [
        f"failures (errors of ours, or unconfirmed with budget left) {total['failures']}, "
        f"over budget by more than one call {total['over_budget']}, "
        f"quotes that stand where they say {total['verified']} of {total['citations']}"
    ]


def memory_line(result: Result) -> str:
    if result.peak is None:
        return "peak memory: not measured, this kernel does not list a process's children"
    document = max(row.document_bytes for row in result.rows)
    return (
        f"peak memory of all processes but the engine: {_mib(result.peak.sampled)} sampled, "
        f"at most {_mib(result.peak.bound)}; the document has {document:,} bytes"
    )


def markdown(result: Result) -> str:
    """Return the result as a page: how it was made, what came of it, every task."""
    facts = [
        *result.provenance.facts(),
        *((f"went on from {one['began']}", f"commit {one['commit']}, `{one['command']}`") for one in result.earlier),
        ("limits of a task", ", ".join(f"{name} {value}" for name, value in asdict(result.limits).items())),
        ("answers held to a schema", "yes" if result.typed else "no"),
        ("prompt profile", f"{result.profile}, sha256 {result.profile_sha256}" if result.profile else "none"),
        ("grammar", f"{result.grammar}" + (f", sha256 {result.grammar_sha256}" if result.grammar_sha256 else "")),
        ("window", f"{result.window_tokens} tokens"),
        ("weights", f"sha256 {result.weights_sha256}"),
        *((name, f"sha256 {digest}") for name, digest in result.data_sha256.items()),
    ]
    head = "| task | kind | outcome | score | s | turns | in | cached | out | sub-calls | answer |"
    table = [head, "|" + " --- |" * head.count("| ")]
    for row in result.rows:
        usage = row.usage
        cells = (
            *(row.number, row.kind, row.outcome, f"{row.score:.2f}", f"{row.wall_s:.1f}", row.turns),
            *(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, row.subcalls),
            _cell(row.answer or row.detail),
        )
        table.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(
        [
            f"# {result.task}, {result.arm}, {result.model}, {result.tokens} tokens",
            "",
            *(f"- {line}" for line in summary_lines(result)),
            f"- memory is measured as: {METHOD}",
            "",
            "| made with | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in facts),
            "",
            *table,
            "",
        ]
    )


def write(result: Result, folder: Path) -> None:
    """Write result.json and result.md into the folder."""
    write_result(result.as_object(), folder)
    (folder / "result.md").write_text(markdown(result), encoding="utf-8")


def _count(rows: Sequence[Row], outcome: Outcome) -> int:
    return sum(row.outcome is outcome for row in rows)


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_ANSWER_CHARS else text[: SHOWN_ANSWER_CHARS - 1] + "…"


def _cell(text: str) -> str:
    return _shortened(" ".join(text.split())).replace("|", "\\|")


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
