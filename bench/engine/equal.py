"""Equal outputs: greedy replies with the cache on and off, alone and in company, token by token."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import zip_longest

from bench.engine.contestants import WINDOW
from bench.engine.measurement import Bench, Figures, Measurement
from bench.engine.rows import Row
from bench.engine.servers import Ours, our_engine
from bench.engine.texts import Texts

MODEL = "qwen2.5-coder-0.5b"
PROMPTS, OUT, COMPANY = 200, 16, 8
SIZES = (20, 40, 80, 120, 200)  # tokens of a prompt, in turns; pieces above and below 64 take different kernels
LIKELIEST = 5  # tokens at each place whose log-probabilities are kept
TIE = 1e-3  # of a logit
ROUNDING = 0.7  # of a logit: what "The same reply" of ARCHITECTURE.md allows between computations of other shapes
REFERENCE = "cache off, alone"
WAYS = {
    REFERENCE: (False, 1),
    "cache off, 8 together": (False, COMPANY),
    "cache on, alone": (True, 1),
    "cache on, 8 together": (True, COMPANY),
}


def prompts_of(bench: Bench) -> list[str]:
    texts = Texts(bench.tokenizer, "equal")
    count = bench.count(PROMPTS, COMPANY)
    return [texts.some(SIZES[i % len(SIZES)]) for i in range(count)]


async def run(bench: Bench, way: str) -> Figures:
    """Return the replies of every prompt: its tokens, and at each the likeliest with their log-probabilities.

    Off: every request has a scope of its own. On: one scope, and the second time that it is asked.
    """
    cached, together = WAYS[way]
    prompts = prompts_of(bench)
    async with our_engine(bench.weights, bench.model, window=WINDOW) as engine:
        if cached:
            await _replies(engine, prompts, together, cached=True)
        replies = await _replies(engine, prompts, together, cached=cached)
    return {"replies": replies}


async def _replies(engine: Ours, prompts: Sequence[str], together: int, *, cached: bool) -> list[Figures]:
    replies: list[Figures] = []
    for start in range(0, len(prompts), together):
        several = prompts[start : start + together]
        scopes = ["same" if cached else f"own {start + i}" for i in range(len(several))]
        calls = [_reply(engine, prompt, scope) for prompt, scope in zip(several, scopes, strict=True)]
        replies += await asyncio.gather(*calls)
    return replies


async def _reply(engine: Ours, prompt: str, scope: str) -> Figures:
    answer = await engine.complete(prompt, max_tokens=OUT, ignore_eos=True, cache_salt=scope, logprobs=LIKELIEST)
    said = answer["choices"][0]["logprobs"]
    return {
        "tokens": said["tokens"],
        "top": [sorted(top.items(), key=lambda each: -each[1]) for top in said["top_logprobs"]],
        "cached_tokens": answer["usage"]["prompt_tokens_details"]["cached_tokens"],
    }


def gap(reference: Figures, other: Figures) -> float | None:
    """Return how far apart, in the reference, the two tokens are at which the replies part; None if they are equal.

    Infinite when the other's token is not among the reference's LIKELIEST.
    """
    for i, (mine, its) in enumerate(zip_longest(reference["tokens"], other["tokens"])):
        if mine != its:
            top = dict(reference["top"][i]) if i < len(reference["top"]) else {}
            return float(top[mine] - top[its]) if {mine, its} <= set(top) else float("inf")
    return None


def report(rows: Sequence[Row]) -> list[str]:
    by_way = {row.contestant: row.figures["replies"] for row in rows}
    if REFERENCE not in by_way:
        return ["Not measured."]
    lines = [
        f"Against `{REFERENCE}`, {OUT} tokens each. A difference is measured where two replies part: how far apart the "
        "two tokens are in the reference, in logits.",
        "",
        f"| | equal | differ | of these within {TIE} | within {ROUNDING} | gaps |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way in list(WAYS)[1:]:
        if way not in by_way:
            continue
        pairs = list(zip(by_way[REFERENCE], by_way[way], strict=True))
        gaps = sorted(g for one, other in pairs if (g := gap(one, other)) is not None)
        ties, rounded = sum(g <= TIE for g in gaps), sum(g <= ROUNDING for g in gaps)
        said = ", ".join(f"{g:.4f}" for g in gaps) or "none"
        lines.append(
            f"| {way} | **{len(pairs) - len(gaps)} of {len(pairs)}** | {len(gaps)} | {ties} | {rounded} | {said} |"
        )
    return lines


EQUAL = Measurement("equal", "Equal outputs", MODEL, lambda *_: list(WAYS), run, report)
