"""Every measured figure in the README is that of a report in bench/results, read from what the report was made of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench/results"
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
MEASURED = README.partition("## What it can do, measured ")[2].partition(" ## ")[0]
NIAH = {"131,072": "niah-2026-11-22-131k", "1,048,576": "niah-2026-11-22-1m", "10,485,760": "niah-2026-11-22-10m"}
ENGINE, CLASSIFY, COUNTS = "engine-2026-11-22", "classify-2026-11-22", "counts-2026-11-22-259k"
KILLS, COST, MIXED = "kills-2026-11-22", "runtime-cost-2026-11-23", "mixed-2026-11-23-programs"


def read(name: str, file: str = "result.json") -> Any:
    return json.loads((RESULTS / name / file).read_text(encoding="utf-8"))


def rounds(measurement: str, contestant: str) -> list[Any]:
    """Return the figures of one measurement of the engine, of each round."""
    files = sorted((RESULTS / ENGINE / "rows").glob(f"{measurement}__*.json"))
    found = [one["figures"] for one in map(json.loads, (file.read_text("utf-8") for file in files))
             if one["contestant"] == contestant]  # fmt: skip
    assert found
    return found


def row(measurement: str, contestant: str) -> Any:
    """Return the figures of what was measured once."""
    (found,) = rounds(measurement, contestant)
    return found


def wall_s(measurement: str, contestant: str) -> str:
    """Return the median of the rounds."""
    return f"{median(one['wall_s'] for one in rounds(measurement, contestant)):.1f}"


def share_of_machine(measurement: str) -> str:
    """Return the share that the report tells: it takes the bare loop's rates at the sizes used."""
    page = (RESULTS / ENGINE / "report.md").read_text(encoding="utf-8")
    section = page.partition(f"## {measurement}")[2].partition("\n## ")[0]
    return percent(float(re.findall(r"share reached \*\*([\d.]+)\*\*", section)[0]))


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def niah(tokens: str) -> tuple[str, ...]:
    found = read(NIAH[tokens])
    total = found["summary"]
    cached = percent(total["cached_tokens"] / total["prompt_tokens"])
    return (
        *(f"{found['tokens']:,}", f"{total['document_bytes']:,}", f"{total['right']}", f"{total['done']}"),
        *(
            f"{total['median_s']:.1f}",
            f"{total['prompt_tokens']:,}",
            cached,
            f"{found['peak']['sampled'] / (1 << 20):.0f}",
        ),
    )


def reference() -> tuple[str, ...]:
    found = read("report/niah-131072-rlms")
    version = re.findall(r"^rlms ([\d.]+):", found["profile"])
    return (*version, f"{found['summary']['right']}", f"{found['summary']['done']}", f"{found['tokens']:,}")


def cached_share_of_all() -> tuple[str, ...]:
    totals = [read(name)["summary"] for name in NIAH.values()]
    return (percent(sum(one["cached_tokens"] for one in totals) / sum(one["prompt_tokens"] for one in totals)),)


def fan_out() -> tuple[str, ...]:
    names = ("ours", "llama-server, slots: 1", "llama_cpp.server, one slot")
    calls = rounds("fan-out", "ours")[0]["requests"]
    return (f"{calls}", *(wall_s("fan-out", name) for name in names), share_of_machine("Fan-out"))


def trace() -> tuple[str, ...]:
    names = ("ours", "llama-server, slots: 1", "llama_cpp.server, one slot")
    return (*(wall_s("trace", name) for name in names), share_of_machine("RLM trace"))


def classify() -> tuple[str, ...]:
    walls = (wall_s("classify", name) for name in ("ours", "llama-server, slots: 1"))
    return (f"{rounds('classify', 'ours')[0]['requests']}", *walls, share_of_machine("Classification"))


def overhead() -> tuple[str, ...]:
    found = row("overhead", "constraint per token, python")
    slowdown = row("fairness", "ours")["slowdown"]
    return f"{found['p50_us']:.0f}", f"{found['p99_us'] / 1_000:.1f}", f"{slowdown:.1f}"


def reuse() -> tuple[str, ...]:
    """Say "all" when every workload reached what an ideal cache of as many cells reaches."""
    files = list((RESULTS / ENGINE / "rows").glob("reuse__*.json"))
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    reached = all(one["figures"]["hit_tokens"] == one["figures"]["lru_hit_tokens"] for one in rows)
    numbers = {6: "six"}
    scales = {one["scale"] for one in rows}
    return ("all" if reached else "not all"), numbers[len(rows)], "full" if scales == {1.0} else f"not {scales}"


def labels() -> tuple[str, ...]:
    names = ("trec-1.5b-0-examples", "trec-1.5b-30-examples", "trec-1.5b-30-examples-2-passes")
    found = [read(CLASSIFY, f"{name}.json") for name in names]
    speeds = [one["lines_per_s"] for one in found]
    return (
        *(f"{found[0]['items']}", *(f"{one['accuracy']:.3f}" for one in found)),
        *(f"{min(speeds):.1f}", f"{max(speeds):.1f}"),
    )


def counts() -> tuple[str, ...]:
    found = read(COUNTS)
    lost = "none" if found["counted"] == found["gold"] and found["asked"] == found["lines"] else "some"
    return f"{found['lines']:,}", f"{found['tokens'] / 1e6:.2f}", lost, f"{found['seconds']:.0f}"


def cost() -> tuple[str, ...]:
    found = read(COST)
    calls = [one["wall_ms"] for one in found["subcall"].values()]
    plain, wide = found["documents"].values()
    return (
        *(f"{found['turn']['wall_ms']:.1f}", f"{min(calls):.2f}", f"{max(calls):.2f}"),
        *(f"{plain['above_mib']:.0f}", f"{plain['document_mib']:.0f}", f"{wide['above_mib']:.0f}"),
    )


def mixed() -> tuple[str, ...]:
    found = read(MIXED)
    names = ("right", "partly", "wrong", "failures", "over_budget", "citations", "verified")
    return (f"{found['tokens']:,}", *(f"{found['summary'][name]}" for name in names))


def kills() -> tuple[str, ...]:
    found = read(KILLS)
    said = ["some" if found[name] else "none" for name in ("lost", "doubled", "paid_twice")]
    right = "some" if found["wrong"] else "all"
    return f"{found['kills']}", f"{found['accepted']}", said[0], said[1], right, f"{found['replies']:,}", said[2]


NUMBER = r"([\d,.]+)"
NIAH_ROW = (
    rf"\| (TOKENS) tokens, {NUMBER} bytes \| \*\*(\d+) of (\d+)\*\* \| {NUMBER} \| {NUMBER} \((\d+ %)\) \| (\d+) MiB \|"
)
CLAIMS: list[tuple[str, Callable[[], tuple[str, ...]]]] = [
    (r"implementation \(rlms ([\d.]+)\).*? found (\d+) of (\d+) at ([\d,]+) tokens", reference),
    *((NIAH_ROW.replace("TOKENS", tokens), lambda tokens=tokens: niah(tokens)) for tokens in NIAH),  # type: ignore[misc]
    (
        rf"from a script .*?: {NUMBER} ms a turn, {NUMBER} to {NUMBER} ms a sub-call in a batch of 1,000, and (\d+) "
        r"MiB above (\d+) MiB of ASCII documents; where a character beyond Latin-1 .*?, (\d+) MiB above them",
        cost,
    ),
    (
        rf"Fifty tasks of mixed kinds, {NUMBER} tokens each .*?: (\d+) right, (\d+) in part, (\d+) wrong\. (\d+) runs "
        r"failed or ended unconfirmed, (\d+) spent more than they may, and of (\d+) quotes (\d+) stand where they say",
        mixed,
    ),
    (
        rf"\| (\d+) sub-calls, 936 shared tokens, 32 tokens out each \| \*\*{NUMBER} s\*\* \| {NUMBER} s \| {NUMBER} s "
        r"\| (\d+ %) \|",
        fan_out,
    ),
    (
        rf"\| a root of 1,200 to 3,000 tokens, six turns, 16 sub-calls after each \| \*\*{NUMBER} s\*\* "
        rf"\| {NUMBER} s \| {NUMBER} s \| (\d+ %) \|",
        trace,
    ),
    (
        rf"\| (\d+) questions of one line, six labels, with probabilities \| \*\*{NUMBER} s\*\* \| {NUMBER} s \| "
        r"\| (\d+ %) \|",
        classify,
    ),
    (r"Prefixes reused, of those that an ideal cache reuses: (\w+), in (\w+) workloads of (\w+) size \(0\.5B\)", reuse),
    (
        r"costs (\d+) µs at the median, ([\d.]+) ms at the 99th percentile\. A reply takes ([\d.]+) times as long "
        r"while a 3,000-token prompt is read",
        overhead,
    ),
    (
        r"Labels of (\d+) TREC questions, .*?: ([\d.]+) right with no example, ([\d.]+) with thirty, ([\d.]+) with "
        r"thirty and `--passes 2`; ([\d.]+) to ([\d.]+) lines a second",
        labels,
    ),
    (
        r"Of ([\d,]+) lines in a document of ([\d.]+) million tokens, labelled from a table through a real jail, "
        r"(none) is lost or counted twice, in (\d+) seconds",
        counts,
    ),
    (
        r"A server killed by kill -9 at (\d+) random moments, .*?: of (\d+) accepted runs (\w+) is lost, (\w+) "
        r"doubled, (\w+) answers are right, and of ([\d,]+) replies (\w+) was asked for again",
        kills,
    ),
]
# Numbers of the measured part that are no results: names of models, sizes of what was asked, commands.
SETTINGS = (
    r"qwen2\.5-coder-1\.5b",
    r"`?python -m bench run niah.*?--arm rlm`?",
    r"`--tokens 1048576 --tasks 10`, `--tokens 10485760 --tasks 5`",
    r"\[bench/results[^\]]*\]\(bench/results[^)]*\)",
    r"a 1\.5B model",
)


@pytest.mark.parametrize(("pattern", "reported"), CLAIMS, ids=lambda value: getattr(value, "__name__", "")[:20])
def test_a_figure_is_that_of_its_report(pattern: str, reported: Callable[[], tuple[str, ...]]) -> None:
    said = re.findall(pattern, MEASURED)
    assert said == [reported()]


def test_the_share_of_cached_tokens_at_the_top_is_that_of_the_runs_below() -> None:
    said = re.search(r"in the runs measured below (\d+ %) of all prompt tokens came from its cache", README)
    assert said is not None
    assert said.groups() == cached_share_of_all()


def test_every_report_that_the_readme_names_is_there_and_its_figures_are_checked() -> None:
    named = set(re.findall(r"bench/results/([\w.-]+-\d{4}-\d\d-\d\d[\w-]*)", README))
    assert named <= {ENGINE, CLASSIFY, COUNTS, KILLS, COST, MIXED, *NIAH.values()}
    assert all((RESULTS / name).is_dir() for name in named)


def test_no_figure_of_the_measured_part_is_left_unchecked() -> None:
    left = MEASURED
    for pattern in (*(pattern for pattern, _ in CLAIMS), *SETTINGS):
        left = re.sub(pattern, "", left)
    assert re.findall(r"\d[\d,.]*", left) == []
