"""`python -m bench engine`: what the CPU engine shares, whether company changes a reply, and what batching gains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import httpx

from bench.engine_report import EngineResult, Line
from bench.provenance import Provenance
from rlm_local.cards import find_card, load_cards
from rlm_local.config import home
from rlm_local.engine.launch import launch_llama
from rlm_local.store import Store

Tokens: TypeAlias = tuple[int, ...]
Calls: TypeAlias = Sequence[Callable[[], Awaitable[dict[str, Any]]]]
Order: TypeAlias = Callable[[Calls], Awaitable[list[dict[str, Any]]]]
WINDOW = 4096
HEAD, FAN = 1_000, 64  # tokens of the shared prefix; requests under it
CHUNK, QUESTIONS = 2_000, 16
ROOT, GROWTH, TURNS = 1_200, 360, 6
SUFFIX = 25
PAIRS = 40  # prompts that are answered alone and among 8
TIE = 0.7  # of a logit; see "The same reply" in ARCHITECTURE.md


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured; `scale` of 1 is what the report of record uses."""

    scale: float

    def __call__(self, count: int) -> int:
        return max(2, round(count * self.scale))


class Raw:
    """An engine's own API, for what no port offers: token ids in, counters out."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = await self._client.post(path, json=body)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    async def tokens(self, text: str) -> Tokens:
        return tuple((await self.post("/tokenize", {"prompt": text}))["tokens"])

    async def counter(self, name: str) -> float:
        lines = (await self._client.get("/metrics")).text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"rlm_engine_{name} "))

    async def moments(self, prompt: str, *, out: int, scope: str) -> list[float]:
        """Return when each token of a reply came, by the clock of time.perf_counter."""
        body = {"prompt": prompt, "max_tokens": out, "temperature": 0, "cache_salt": scope, "ignore_eos": True}
        async with self._client.stream("POST", "/v1/completions", json=body | {"stream": True}) as response:
            return [time.perf_counter() async for line in response.aiter_lines() if line.startswith("data: {")]

    async def write(self, prompt: str, *, out: int, scope: str, **more: Any) -> dict[str, Any]:
        """Continue a text by exactly `out` tokens."""
        body = {"prompt": prompt, "max_tokens": out, "temperature": 0, "cache_salt": scope, "ignore_eos": True}
        return await self.post("/v1/completions", body | more)


class Texts:
    """Plain text of about as many tokens as asked for; the same seed gives the same text."""

    WORDS = ("river", "stone", "paper", "green", "seven", "open", "market", "winter", "letter", "bridge", "quiet")

    def __init__(self) -> None:
        self._state = 1

    def some(self, tokens: int) -> str:
        words = []
        for _ in range(round(tokens / 1.05)):
            self._state = self._state * 1_103_515_245 + 12_345 & 0x7FFF_FFFF
            words.append(self.WORDS[(self._state >> 16) % len(self.WORDS)])
        return " ".join(words) + ".\n"


def ideal_hits(prompts: Sequence[Tokens]) -> int:
    """Return the tokens that an unlimited cache would share, prompt after prompt; each computes at least one."""
    seen: list[Tokens] = []
    hits = 0
    for prompt in prompts:
        hits += max((min(_common(prompt, other), len(prompt) - 1) for other in seen), default=0)
        seen.append(prompt)
    return hits


async def reuse(raw: Raw, sizes: Sizes) -> list[Line]:
    """Fan-out, chunk-first and root growth: hits that were reached, of those that were possible."""
    texts = Texts()
    head, chunk, root = texts.some(HEAD), texts.some(CHUNK), texts.some(ROOT)
    fan = [head + texts.some(SUFFIX) for _ in range(sizes(FAN))]
    chunked = [chunk + texts.some(SUFFIX) for _ in range(sizes(QUESTIONS))]
    lines = [
        await _reached(raw, "fan-out, all at once", "fan", fan, _together),
        await _reached(raw, "chunk first", "chunk", chunked, _one_by_one),
    ]
    turns = [root]
    for _ in range(TURNS - 1):
        turns.append(turns[-1] + texts.some(GROWTH))
    return [*lines, await _reached(raw, "root growth", "root", turns, _one_by_one)]


async def _reached(raw: Raw, name: str, scope: str, prompts: list[str], order: Order) -> Line:
    before = await raw.counter("prefix_cache_hits_total")
    answers = await order([partial(raw.write, p, out=1, scope=scope) for p in prompts])
    counted = await raw.counter("prefix_cache_hits_total") - before
    told = sum(answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers)
    if counted != told:
        raise AssertionError(f"{name}: /metrics counted {counted:.0f} hits, the replies said {told}")
    ideal = ideal_hits([await raw.tokens(prompt) for prompt in prompts])
    return Line(name, f"{told / ideal:.4f}", f"{told} of {ideal} tokens that could be shared, {len(prompts)} requests")


async def equal_outputs(raw: Raw, sizes: Sizes) -> list[Line]:
    """Greedy replies alone, and again in batches of 8: equal, or a tie within rounding, or wrong."""
    texts = Texts()
    prompts = [texts.some(20) for _ in range(sizes(PAIRS) // 8 * 8 or 8)]
    calls = [partial(raw.write, p, out=16, scope="equal", logprobs=2) for p in prompts]
    alone = await _one_by_one(calls)
    among: list[dict[str, Any]] = []
    for i in range(0, len(calls), 8):
        among += await _together(calls[i : i + 8])
    gaps = [gap for one, other in zip(alone, among, strict=True) if (gap := _gap(one, other)) is not None]
    ties = sum(gap < TIE for gap in gaps)
    return [
        Line("alone = in a batch of 8", f"{len(prompts) - len(gaps)} of {len(prompts)}", "greedy, 16 tokens each"),
        Line("first differences that are ties", f"{ties} of {len(gaps)}", f"the two likeliest within {TIE} of a logit"),
        Line("widest such gap", f"{max(gaps, default=0):.3f}", "of a logit, in the reply that was alone"),
    ]


async def fan_out_time(raw: Raw, sizes: Sizes) -> list[Line]:
    """The wall time of a fan-out, one request after another and all at once; nothing cached before either."""
    texts = Texts()
    head = texts.some(936)
    prompts = [head + texts.some(SUFFIX) for _ in range(sizes(32))]
    seconds = {}
    for name, order in (("one", _one_by_one), ("all", _together)):
        began = time.perf_counter()
        await order([partial(raw.write, p, out=32, scope=f"time-{name}") for p in prompts])
        seconds[name] = time.perf_counter() - began
    out = 32 * len(prompts)
    return [
        Line("fan-out, one after another", f"{seconds['one']:.1f} s", f"{len(prompts)} requests, 32 tokens out each"),
        Line(
            "fan-out, all at once", f"{seconds['all']:.1f} s", f"{out / seconds['all']:.1f} tokens/s with the prompts"
        ),
        Line("gain", f"{seconds['one'] / seconds['all']:.2f}"),
    ]


async def classify_time(raw: Raw, sizes: Sizes) -> list[Line]:
    """One-line questions under a shared prefix, six choices, scored."""
    texts = Texts()
    head, labels = texts.some(260), ["location", "number", "person", "entity", "description", "abbreviation"]
    prompts = [head + texts.some(12) + "Kind:" for _ in range(sizes(100))]
    body = {"structured_outputs": {"choice": [f" {label}" for label in labels]}, "ignore_eos": False}
    began = time.perf_counter()
    await _together([partial(raw.write, p, out=16, scope="classify", **body) for p in prompts])
    seconds = time.perf_counter() - began
    return [Line("classification", f"{len(prompts) / seconds:.1f} lines/s", f"{len(prompts)} lines, six choices")]


async def fairness(raw: Raw, _: Sizes) -> list[Line]:
    """Four replies are written while a long prompt arrives: how much longer each of their tokens takes."""
    texts = Texts()
    writers = [asyncio.ensure_future(raw.moments(texts.some(20), out=120, scope="fair")) for _ in range(4)]
    await asyncio.sleep(4)
    began = time.perf_counter()
    await raw.write(texts.some(3_000), out=1, scope="fair")
    ended = time.perf_counter()
    came = [await writer for writer in writers]
    gaps = [(at, at - last) for times in came for last, at in pairwise(times)]
    calm = [gap for at, gap in gaps[1:] if at < began]
    beside = [gap for at, gap in gaps if began < at < ended]
    return [
        Line("time between tokens, 4 replies", f"{median(calm) * 1e3:.0f} ms", "median"),
        Line("the same beside a 3,000-token prompt", f"{median(beside) * 1e3:.0f} ms", f"{len(beside)} gaps"),
        Line("slowdown", f"{median(beside) / median(calm):.2f}"),
    ]


async def overhead(raw: Raw, _: Sizes) -> list[Line]:
    """Eight replies under a grammar: the share of a step that is not the model's own computation."""
    texts = Texts()
    names = ("draw_seconds_sum", "reply_step_seconds_sum")
    before = [await raw.counter(name) for name in names]
    grammar = {"regex": "[a-z ]{2000}"}
    body = {"structured_outputs": grammar, "ignore_eos": False, "seed": 1, "temperature": 0.7}
    await _together([partial(raw.write, texts.some(20), out=48, scope="mask", **body) for _ in range(8)])
    draw, step = [await raw.counter(name) - b for name, b in zip(names, before, strict=True)]
    return [
        Line("drawing and masks", f"{draw / (draw + step):.1%}", "of the time of a step with 8 replies"),
        Line("per token", f"{draw / (8 * 48) * 1e6:.0f} µs", f"{8 * 48} tokens drawn"),
    ]


async def _one_by_one(calls: Calls) -> list[dict[str, Any]]:
    return [await call() for call in calls]


async def _together(calls: Calls) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(call() for call in calls)))


def _common(one: Tokens, other: Tokens) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _gap(alone: dict[str, Any], among: dict[str, Any]) -> float | None:
    """Return how far apart the two likeliest tokens were where the replies part; None where they never do."""
    one, other = (answer["choices"][0]["logprobs"] for answer in (alone, among))
    for i, (a, b) in enumerate(zip(one["tokens"], other["tokens"], strict=True)):
        if a != b:
            first, second = sorted(one["top_logprobs"][i].values(), reverse=True)
            return float(first - second)
    return None


MEASUREMENTS: dict[str, Callable[[Raw, Sizes], Awaitable[list[Line]]]] = {
    "reuse": reuse,
    "equal": equal_outputs,
    "time": fan_out_time,
    "classify": classify_time,
    "fairness": fairness,
    "overhead": overhead,
}


def measure_engine(
    model: str, names: Sequence[str], scale: float, made: Provenance, say: Callable[[str], None]
) -> EngineResult:
    """Run the measurements named, in order, on a pulled model. Raises ConfigError and StoreError."""
    card, store = find_card(model, load_cards()), Store(home())
    lines = asyncio.run(measure(store.path(card, "llama"), card.name, names, scale, say))
    return EngineResult(card.name, store.sha256(card, "llama"), scale, lines, made)


async def measure(
    weights: Path, model: str, names: Sequence[str], scale: float, say: Callable[[str], None]
) -> list[Line]:
    """Start an engine for the measurements named, and return what they say."""
    lines: list[Line] = []
    with TemporaryDirectory(prefix="rlm-bench-") as folder:
        async with launch_llama(weights, model, window_tokens=WINDOW, runtime_dir=Path(folder)) as engine:
            transport = httpx.AsyncHTTPTransport(uds=str(engine.socket))
            async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=None) as client:
                raw = Raw(client)
                for name in names:
                    say(f"measuring {name}")
                    lines += await MEASUREMENTS[name](raw, Sizes(scale))
                    await raw.post("/reset_prefix_cache", {})
    return lines
