"""A full memory: how fast a prompt is read in it, against as long a prompt in an empty one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from random import Random
from statistics import median

from bench.engine.contestants import OURS
from bench.engine.measurement import Bench, Figures, Measurement
from bench.engine.rows import Row
from bench.engine.servers import Ours, our_engine
from bench.engine.texts import Texts

MODEL = "smollm2-135m"  # whose weights cost least beside attention
WINDOW, CELLS = 4_096, 8_192
LONG, PROMPTS = 1_600, 3  # tokens of what is timed, and how many of them
REQUESTS, CALLERS, AT_ONCE = 120, 20, 24
GOAL = 0.9


async def run(bench: Bench, _: str) -> Figures:
    texts, dice = Texts(bench.tokenizer, "full"), Random("full")
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(engine: Ours, number: int) -> None:
        size, out = (LONG, 60) if number % 12 == 0 else (dice.randint(30, 90), 24)
        async with gate:
            await engine.write(texts.some(size), out=out, cache_salt=f"caller-{number % CALLERS}")

    async with our_engine(bench.weights, bench.model, window=WINDOW, cells=CELLS) as engine:
        empty = await _speed(engine, texts, "before")
        began = time.perf_counter()
        await asyncio.gather(*(one(engine, number) for number in range(bench.count(REQUESTS))))
        took_s = time.perf_counter() - began
        full = await _speed(engine, texts, "after")
        counters = await engine.counters()
    return {
        "empty_tokens_s": empty,
        "full_tokens_s": full,
        "fill_s": took_s,
        "cells_used": int(counters["cells_used"]),
        "shelved_tokens": int(counters["shelved_tokens"]),
    }


async def _speed(engine: Ours, texts: Texts, name: str) -> float:
    """Return how many tokens a second are read of a prompt that shares nothing, the median of some."""
    speeds = []
    for number in range(PROMPTS):
        prompt = texts.some(LONG)
        began = time.perf_counter()
        reply = await engine.write(prompt, out=1, cache_salt=f"{name}-{number}")
        speeds.append((reply.prompt_tokens - (reply.cached_tokens or 0)) / (time.perf_counter() - began))
    return median(speeds)


def report(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["Not measured."]
    empty, full, took = (
        median(row.figures[name] for row in rows) for name in ("empty_tokens_s", "full_tokens_s", "fill_s")
    )
    last = rows[-1].figures
    return [
        f"- A prompt of {LONG:,} tokens is read at {empty:.0f} tokens a second in an empty memory of {CELLS:,} cells, "
        f"at {full:.0f} after {REQUESTS} requests of {CALLERS} callers ({rows[0].model}): **{full / empty:.2f}** "
        f"(goal: at least {GOAL})",
        f"- The {REQUESTS} requests took {took:.0f} s; then {last['cells_used']:,} cells were in use, and "
        f"{last['shelved_tokens']:,} tokens on the shelf",
    ]


FULL = Measurement("full", "A full memory", MODEL, lambda *_: [OURS], run, report, repeated=True)
