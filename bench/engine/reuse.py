"""Prefix reuse: tokens that were taken over from memory, of those that could have been."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from bench.engine.contestants import WINDOW
from bench.engine.measurement import Bench, Figures, Measurement
from bench.engine.reference import ideal_hits, lru_hits
from bench.engine.rows import Row
from bench.engine.servers import Ours, our_engine
from bench.engine.texts import Texts

MODEL = "qwen2.5-coder-0.5b"
HEAD, FAN, SUFFIX = 1_000, 64, 25
CHUNK, QUESTIONS = 2_000, 16
ROOT, GROWTH, TURNS = 1_200, 200, 12
TRACE = "traces/mooncake_conversation_trace.jsonl"
TRACE_BLOCK, BLOCK, TRACE_REQUESTS, TRACE_KEPT = 512, 16, 200, 16_384
EVICTION_KEPT, SHARED, GROUP, OWN = 2_048, 64, 176, 16
ROUNDS, DRAWS = 4, 128  # passes of the round robin; requests whose group is drawn


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts in order; cells: of the engine's memory, None for as many as the product takes."""

    prompts: Callable[[Bench], list[str]]
    target: float  # of the ideal that keeps as many tokens
    at_once: bool = False
    kept: int | None = None  # tokens, in cells and on the shelf; by default as many as the product would keep


def fan(bench: Bench) -> list[str]:
    texts = Texts(bench.tokenizer, "fan")
    head = texts.some(HEAD)
    return [head + texts.some(SUFFIX) for _ in range(bench.count(FAN))]


def chunk_first(bench: Bench) -> list[str]:
    texts = Texts(bench.tokenizer, "chunk")
    chunk = texts.some(CHUNK)
    return [chunk + texts.some(SUFFIX) for _ in range(bench.count(QUESTIONS))]


def root_growth(bench: Bench) -> list[str]:
    texts = Texts(bench.tokenizer, "root")
    turns = [texts.some(ROOT)]
    while len(turns) < bench.count(TURNS):
        turns.append(turns[-1] + texts.some(GROWTH))
    return turns


def conversations(bench: Bench) -> list[str]:
    """Return the prompts of a day's conversations: blocks known by number become texts of 16 tokens each.

    A request longer than the window is left out. Nothing where the trace is not there.
    """
    path, texts = bench.data / TRACE, Texts(bench.tokenizer, "trace")
    prompts: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        request = json.loads(line)
        size = max(2, request["input_length"] * BLOCK // TRACE_BLOCK)
        if size >= WINDOW:
            continue
        whole = [texts.block(number, BLOCK) for number in request["hash_ids"]]
        prompts.append("".join(f" {word}" for word in "".join(whole).split()[:size]))
        if len(prompts) == bench.count(TRACE_REQUESTS):
            break
    return prompts


def round_robin(bench: Bench) -> list[str]:
    groups = _groups(bench)
    texts = Texts(bench.tokenizer, "round robin")
    return [group + texts.some(OWN) for _ in range(bench.count(ROUNDS)) for group in groups]


def zipf(bench: Bench) -> list[str]:
    groups = _groups(bench)
    texts, random = Texts(bench.tokenizer, "zipf"), Random("zipf")
    weights = [1 / rank for rank in range(1, len(groups) + 1)]
    return [group + texts.some(OWN) for group in random.choices(groups, weights, k=bench.count(DRAWS))]


def _groups(bench: Bench) -> list[str]:
    """Return the groups' prefixes, which share a head; one request of each takes twice the tokens that are kept."""
    texts = Texts(bench.tokenizer, "groups")
    head = texts.some(SHARED)
    return [head + texts.some(GROUP) for _ in range(2 * EVICTION_KEPT // (SHARED + GROUP + OWN))]


WORKLOADS = {
    "fan-out, all at once": Workload(fan, 0.99, at_once=True),
    "chunk first": Workload(chunk_first, 0.99),
    "root growth": Workload(root_growth, 0.99),
    "conversation trace": Workload(conversations, 0.95, kept=TRACE_KEPT),
    "eviction, round robin": Workload(round_robin, 0.95, kept=EVICTION_KEPT),
    "eviction, Zipf 1.0": Workload(zipf, 0.95, kept=EVICTION_KEPT),
}


def contestants(bench: Bench, round_: int, rows: Sequence[Row]) -> list[str]:
    """The workloads; without the trace's file that one is left out, and the report says so."""
    return [name for name in WORKLOADS if name != "conversation trace" or (bench.data / TRACE).exists()]


async def run(bench: Bench, name: str) -> Figures:
    workload = WORKLOADS[name]
    prompts = workload.prompts(bench)
    cells = None if workload.kept is None else workload.kept // 2  # the shelf has the other half
    window = WINDOW if cells is None else min(WINDOW, cells)
    async with our_engine(bench.weights, bench.model, window=window, cells=cells) as engine:
        cached = await _cached(engine, prompts, at_once=workload.at_once)
        counted = int((await engine.counters())["prefix_cache_hits_total"])
        kept = engine.launch.cells + engine.launch.shelf
    if counted != sum(cached):
        raise AssertionError(f"{name}: /metrics counted {counted} hits, the replies said {sum(cached)}")
    tokens = [bench.tokenizer(prompt) for prompt in prompts]
    return {
        "requests": len(prompts),
        "prompt_tokens": sum(map(len, tokens)),
        "kept_tokens": kept,
        "hit_tokens": counted,
        "lru_hit_tokens": lru_hits(tokens, kept),
        "unlimited_hit_tokens": ideal_hits(tokens),
        "target": workload.target,
    }


async def _cached(engine: Ours, prompts: Sequence[str], *, at_once: bool) -> list[int]:
    if at_once:
        replies = await asyncio.gather(*(engine.write(prompt, out=1) for prompt in prompts))
    else:
        replies = [await engine.write(prompt, out=1) for prompt in prompts]
    return [reply.cached_tokens or 0 for reply in replies]


def report(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| | reached / ideal | goal | hit tokens | ideal LRU of as many tokens | no limit | tokens kept | requests |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda r: list(WORKLOADS).index(r.contestant)):
        f = row.figures
        lines.append(
            f"| {row.contestant} | **{f['hit_tokens'] / f['lru_hit_tokens']:.4f}** | {f['target']} "
            f"| {f['hit_tokens']:,} | {f['lru_hit_tokens']:,} | {f['unlimited_hit_tokens']:,} "
            f"| {f['kept_tokens']:,} | {f['requests']} |"
        )
    missing = [name for name in WORKLOADS if name not in {row.contestant for row in rows}]
    return [*lines, *(["", f"Not measured: {', '.join(missing)}."] if missing else [])]


REUSE = Measurement("reuse", "Reuse of prefixes", MODEL, contestants, run, report)
