"""Fairness: what a long prompt costs those who are writing when it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

from bench.engine.contestants import OURS, WINDOW
from bench.engine.measurement import Bench, Figures, Measurement
from bench.engine.rows import Row
from bench.engine.servers import our_engine
from bench.engine.texts import Texts

MODEL = "qwen2.5-coder-0.5b"
WRITERS, LONG, OUT = 4, 3_000, 120
CALM_S = 4.0  # how long they write undisturbed
GOAL = 3.0


async def run(bench: Bench, _: str) -> Figures:
    texts = Texts(bench.tokenizer, "fair")
    async with our_engine(bench.weights, bench.model, window=WINDOW) as engine:
        writers = [asyncio.ensure_future(engine.moments(texts.some(20), out=OUT)) for _ in range(WRITERS)]
        await asyncio.sleep(CALM_S)
        loop = asyncio.get_running_loop()
        began = loop.time()  # time.perf_counter and this are one clock on Linux
        await engine.write(texts.some(LONG), out=1)
        ended = loop.time()
        came = [await writer for writer in writers]
    gaps = [(at, at - last) for times in came for last, at in pairwise(times)]
    calm = [each for at, each in gaps if at < began]
    beside = [each for at, each in gaps if began < at < ended]
    # Means: a prompt is read in pieces between which several tokens are written, so that a median would not see them.
    return {
        "calm_s": fmean(calm),
        "beside_s": fmean(beside),
        "beside_longest_s": max(beside),
        "gaps_beside": len(beside),
        "slowdown": fmean(beside) / fmean(calm),
    }


def report(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["Not measured."]
    slowdown = median(row.figures["slowdown"] for row in rows)
    calm, beside = (median(row.figures[name] for row in rows) for name in ("calm_s", "beside_s"))
    longest = max(row.figures["beside_longest_s"] for row in rows)
    return [
        f"- Time between two tokens of {WRITERS} replies: {calm * 1e3:.0f} ms alone, {beside * 1e3:.0f} ms beside a "
        f"prompt of {LONG:,} tokens (means; the longest {longest * 1e3:.0f} ms)",
        f"- Slowdown: **{slowdown:.2f}** (goal: at most {GOAL:.0f})",
    ]


FAIRNESS = Measurement("fairness", "Fairness", MODEL, lambda *_: [OURS], run, report, repeated=True)
