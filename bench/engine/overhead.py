"""Overhead: the share of time that is not the model's own computation, and what a grammar costs per token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from statistics import median

import numpy as np

from bench.engine.constraint import constraint_times
from bench.engine.contestants import WINDOW
from bench.engine.measurement import Bench, Figures, Measurement
from bench.engine.rows import Row
from bench.engine.servers import Ours, our_engine
from bench.engine.texts import Texts
from rlm_local.grammar import TurnState, turn_grammar
from rlm_local.types import GrammarMode

MODEL = "qwen2.5-coder-0.5b"
REPLIES, OUT = 8, 96
PROBES = 40  # requests whose way to the first computation is timed
TASK = (
    "Write Python that counts how often each word of `context` occurs, and prints the ten commonest with their count."
)
GRAMMARS = {f"grammar {mode}": mode for mode in (GrammarMode.SKELETON, GrammarMode.PYTHON)}
PER_TOKEN = {f"constraint per token, {mode}": mode for mode in GRAMMARS.values()}
FIRST_STEP = {"request to first step, 20 tokens": 20, "request to first step, 1,000 tokens": 1_000}
GOALS = {"share": 0.05, "p50_us": 100.0, "p99_us": 3_000.0, "p50_s": 0.005}
_STEPS = ("prompt_step_seconds_sum", "reply_step_seconds_sum")


def source(mode: GrammarMode) -> str:
    text = turn_grammar(TurnState.FIRST, "lark", mode)
    assert text is not None  # only OFF has none
    return text


def contestants(bench: Bench, round_: int, rows: Sequence[Row]) -> list[str]:
    return [*GRAMMARS, *PER_TOKEN, *FIRST_STEP]


async def run(bench: Bench, name: str) -> Figures:
    if name in PER_TOKEN:
        return constraint_times(bench.weights, source(PER_TOKEN[name]), TASK, REPLIES, OUT)
    async with our_engine(bench.weights, bench.model, window=WINDOW) as engine:
        if name in GRAMMARS:
            return await _share(engine, source(GRAMMARS[name]))
        return await _first_step(engine, Texts(bench.tokenizer, name), FIRST_STEP[name], bench.count(PROBES))


async def _share(engine: Ours, grammar: str) -> Figures:
    """Eight replies under a grammar, from the first request to the last reply."""

    async def reply(seed: int) -> int:
        chat = {"messages": [{"role": "user", "content": TASK}], "temperature": 0.7, "seed": seed, "max_tokens": OUT}
        answer = await engine.post("/v1/chat/completions", chat | {"structured_outputs": {"grammar": grammar}})
        return int(answer["usage"]["completion_tokens"])

    await reply(0)  # compiles the grammar, once for all that follow
    before = await engine.counters()
    began = time.perf_counter()
    written = await asyncio.gather(*(reply(seed) for seed in range(1, REPLIES + 1)))
    wall_s = time.perf_counter() - began
    after = await engine.counters()
    computing_s, draw_s = (
        sum(after[name] - before[name] for name in names) for names in (_STEPS, ("draw_seconds_sum",))
    )
    return {
        "wall_s": wall_s,
        "computing_s": computing_s,
        "draw_s": draw_s,
        "tokens": sum(written),
        "share": 1 - computing_s / wall_s,
    }


async def _first_step(engine: Ours, texts: Texts, size: int, count: int) -> Figures:
    """A request for one token: all of its time but the computation itself; so it counts the way back too."""
    outside = []
    for _ in range(count + 1):
        prompt = texts.some(size)
        before = await engine.counters()
        began = time.perf_counter()
        await engine.write(prompt, out=1)
        wall_s = time.perf_counter() - began
        after = await engine.counters()
        outside.append(wall_s - sum(after[name] - before[name] for name in _STEPS))
    outside = outside[1:]  # the first one opened the connection
    return {"requests": count, "p50_s": median(outside), "p99_s": float(np.percentile(outside, 99))}


def report(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["Not measured."]
    lines = ["| | reached | goal | |", "| --- | --- | --- | --- |"]
    for name in contestants_in(rows):
        found = [row.figures for row in rows if row.contestant == name]
        middle = {key: median(f[key] for f in found) for key in found[0]}
        if name in GRAMMARS:
            lines.append(
                f"| time outside llama_decode, {REPLIES} replies, {name} | **{middle['share']:.1%}** "
                f"| {GOALS['share']:.0%} | {middle['wall_s']:.1f} s, of it {middle['draw_s']:.2f} s drawing and masks |"
            )
        elif name in PER_TOKEN:
            lines.append(
                f"| {name} | **p50 {middle['p50_us']:.0f} µs, p99 {middle['p99_us']:.0f} µs** "
                f"| {GOALS['p50_us']:.0f} µs, {GOALS['p99_us']:,.0f} µs "
                f"| {middle['tokens']:.0f} tokens, whole mask for {middle['masks']:.0f} |"
            )
        else:
            lines.append(
                f"| {name}, and back | **p50 {middle['p50_s'] * 1e3:.1f} ms** | {GOALS['p50_s'] * 1e3:.0f} ms "
                f"| p99 {middle['p99_s'] * 1e3:.1f} ms of {middle['requests']:.0f} requests |"
            )
    return lines


def contestants_in(rows: Sequence[Row]) -> list[str]:
    return [name for name in (*GRAMMARS, *PER_TOKEN, *FIRST_STEP) if name in {row.contestant for row in rows}]


OVERHEAD = Measurement("overhead", "Overhead", MODEL, contestants, run, report, repeated=True)
