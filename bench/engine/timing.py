"""Fan-out, RLM trace and classification: wall time beside the peers', and the distance to the floor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, TypeAlias

from bench.engine.bare import measured
from bench.engine.contestants import BARE, OURS, best_settings, contestant, described, timed_contestants
from bench.engine.measurement import Bench, Figures, Measurement
from bench.engine.rows import Row
from bench.engine.servers import PeerFailed, Server
from bench.engine.workloads import FAN_CALLS, SUB_CALLS, Timed, Work, classify, fan_out, rlm_trace

MODEL = "qwen2.5-coder-1.5b"
WIDEST = 64  # sequences of one computation, where the bare loop's best rate is looked for
Workload: TypeAlias = Callable[[Server, Bench], Awaitable[Timed]]


def timed(name: str, title: str, workload: Workload, rows: Callable[[Bench], Sequence[int]]) -> Measurement:
    """Return the measurement of a workload; rows: the batch sizes at which it writes."""

    async def run(bench: Bench, who: str) -> Figures:
        if who in BARE:
            waits, reordered = BARE[who]
            counts = sorted({*rows(bench), WIDEST})
            return dict(await measured(bench.weights, counts, waits, reordered=reordered))
        try:
            async with contestant(bench, who) as server:
                await server.write("Begin", out=1)  # a process's first request pays for pages that are not there yet
                return asdict(await workload(server, bench)) | described(bench, who)
        except PeerFailed as error:
            return {"failed": str(error)} | described(bench, who)

    return Measurement(name, title, MODEL, timed_contestants, run, report, repeated=True)


def report(rows: Sequence[Row]) -> list[str]:
    """Return a table of everybody, the ratio to the best peer, and the share of the floor."""
    servers = {r.contestant: r for r in rows if "wall_s" in r.figures}
    failed = [
        f"- `{r.contestant}` did not come to the end: {r.figures['failed']}" for r in rows if "failed" in r.figures
    ]
    if not servers:
        return ["Not measured.", *failed]
    walls = {name: walls_of(rows, name) for name in servers}
    lines = [
        "| | wall time, median | of | tokens read, of which reused | tokens out |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in sorted(servers.items(), key=lambda each: median(walls[each[0]])):
        f = row.figures
        reused = "unknown" if f["cached_tokens"] is None else f"{f['cached_tokens']:,}"
        spread = ", ".join(f"{wall:.1f}" for wall in walls[name])
        lines.append(
            f"| {name} | {median(walls[name]):.1f} s | {spread} | {f['prompt_tokens']:,}, {reused} "
            f"| {f['completion_tokens']:,} |"
        )
    settings = {r.contestant: r.figures["settings"] for r in servers.values() if r.contestant != OURS}
    return [
        *lines,
        "",
        *_verdict(rows, walls),
        "",
        *(f"- `{who}`: `{what}`" for who, what in settings.items()),
        *failed,
    ]


def walls_of(rows: Sequence[Row], who: str) -> list[float]:
    return [row.figures["wall_s"] for row in rows if row.contestant == who and "wall_s" in row.figures]


def best_rates(rows: Sequence[Row]) -> tuple[float, dict[int, float]] | None:
    """Return the bare loop's best rates: reading, and writing by sequences; the median of rounds, the better policy."""
    reading: list[float] = []
    writing: dict[int, list[float]] = {}
    for policy in BARE:
        found = [row.figures for row in rows if row.contestant == policy]
        if not found:
            continue
        reading += [median(f["read"][chunk] for f in found) for chunk in found[0]["read"]]
        for count in found[0]["written"]:
            writing.setdefault(int(count), []).append(median(f["written"][count] for f in found))
    return (max(reading), {count: max(rates) for count, rates in writing.items()}) if reading else None


def floor_s(rows: Sequence[Row], *, best: bool = False) -> float | None:
    """Return the least time that the bare loop's rates allow for what our engine was asked."""
    rates = best_rates(rows)
    ours = next((row for row in rows if row.contestant == OURS), None)
    if rates is None or ours is None:
        return None
    return _work(ours.figures["work"]).floor_s(*rates, best=best)


def _work(fields: Mapping[str, Any]) -> Work:
    # JSON has made texts of the keys.
    return Work(fields["read"], {int(rows): count for rows, count in fields["written"].items()})


def _verdict(rows: Sequence[Row], walls: Mapping[str, list[float]]) -> list[str]:
    if OURS not in walls:
        return []
    ours = median(walls[OURS])
    lines = []
    peers = [name for name in best_settings(rows) if name in walls]
    if peers:
        best = min(peers, key=lambda name: median(walls[name]))
        lines.append(f"- Ours / best peer: **{ours / median(walls[best]):.2f}** (`{best}`)")
        lines += [f"- Ours / `{name}`: {ours / median(walls[name]):.2f}" for name in peers]
    requests = next(r.figures["requests"] for r in rows if r.contestant == OURS)
    lines.append(f"- Ours: {requests / ours:.2f} requests/s")
    rates = best_rates(rows)
    at_size, at_best = floor_s(rows), floor_s(rows, best=True)
    if rates and at_size and at_best:
        read, written = rates
        said = ", ".join(f"{count}: {rate:.1f}" for count, rate in sorted(written.items()))
        lines += [
            f"- Bare loop: reads {read:.1f} tokens/s; writes, by sequences, {said} tokens/s",
            f"- Floor at the batch sizes used: {at_size:.1f} s, share reached **{at_size / ours:.2f}**; "
            f"were every token written at the best rate of any size: {at_best:.1f} s, {at_best / ours:.2f}",
        ]
    return lines


FAN_OUT = timed(
    "fan-out",
    "Fan-out: 32 calls, 936 shared tokens, 25 of their own, 32 tokens out each",
    lambda server, bench: fan_out(server, bench.tokenizer, bench.scale, "fan-out"),
    lambda bench: [bench.count(FAN_CALLS)],
)
TRACE = timed(
    "trace",
    "RLM trace: a root of 1,200 to 3,000 tokens over 6 turns, each followed by 16 calls under one of two instructions",
    lambda server, bench: rlm_trace(server, bench.tokenizer, bench.scale, "trace"),
    lambda bench: [1, bench.count(SUB_CALLS)],
)
CLASSIFY = timed(
    "classify",
    "Classification: 500 one-line questions under 260 shared tokens, six labels",
    lambda server, bench: classify(server, bench.tokenizer, bench.scale, "classify", bench.data),
    lambda bench: [1],
)
