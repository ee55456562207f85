"""Models whose memory is not a plain list of cells: the right words, whatever was asked before and beside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.engine.counters import counters
from rlm_local.engine.launch import LlamaEngine, launch_llama
from tests.engine import toy_models

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

HEAD = "".join(f"Line {i} of the head that all of them share.\n" for i in range(6))  # 250 bytes, as many tokens
PROMPTS = [HEAD + f"Question {i}?" for i in range(8)]
PROMPTS += [HEAD[:size] + "!" for size in (120, 180)]  # cut inside of what the others left, behind their windows
OUT = 40  # more than the window, so that a reply pushes its own prompt out of it
# Of a logit. K and V are kept in 16 bits, and their order in memory is that of the additions: 0.04 was seen.
CLOSE = 0.1


class Toy:
    """An engine for one made-up model, asked token by token."""

    def __init__(self, engine: LlamaEngine, client: httpx.AsyncClient) -> None:
        self.engine = engine
        self.client = client

    async def write(self, prompt: str, **more: Any) -> dict[str, Any]:
        body = {"prompt": prompt, "max_tokens": OUT, "temperature": 0, "ignore_eos": True, "logprobs": 0} | more
        response = await self.client.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def flush(self, scope: str) -> None:
        assert (await self.client.post("/reset_prefix_cache", json={"cache_salt": scope})).status_code == 200


@asynccontextmanager
async def running(weights: Path, runtime: Path) -> AsyncIterator[Toy]:
    async with launch_llama(
        weights, "toy", window_tokens=512, kv_tokens=1024, runtime_dir=runtime, threads=1
    ) as engine:
        transport = httpx.AsyncHTTPTransport(uds=str(engine.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=120) as client:
            yield Toy(engine, client)


def assert_same(reply: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    """Equal tokens with equal probabilities, up to where two tokens were as likely as rounding tells apart."""
    one, other = (answer["choices"][0]["logprobs"] for answer in (reply, expected))
    assert len(one["tokens"]) == len(other["tokens"]) == OUT
    for at in range(OUT):
        assert one["token_logprobs"][at] == pytest.approx(other["token_logprobs"][at], abs=CLOSE), f"{what}: {at}"
        if one["tokens"][at] != other["tokens"][at]:
            return


@pytest.mark.parametrize(
    ("make", "warned"),
    [
        (toy_models.recurrent, "its state is recurrent"),
        (toy_models.hybrid, "it is a hybrid of attention and recurrent state"),
        (toy_models.sliding, ""),
    ],
    ids=["recurrent", "hybrid", "sliding"],
)
async def test_replies_are_those_of_a_fresh_memory(make: Callable[[Path], Path], warned: str, tmp_path: Path) -> None:
    weights = make(tmp_path / "toy.gguf")
    async with running(weights, tmp_path / "run") as toy:
        # A scope of its own for each: nothing is shared, and nothing else is in its memory's reach.
        expected = [await toy.write(p, cache_salt=f"alone {i}") for i, p in enumerate(PROMPTS)]
        assert all(e["usage"]["prompt_tokens_details"]["cached_tokens"] == 0 for e in expected)
        told = [line for line in toy.engine.warnings if "computes every prompt anew" in line]
        assert told == ([f"toy computes every prompt anew, because {warned}"] if warned else [])
    async with running(weights, tmp_path / "run") as toy:
        after = [await toy.write(p) for p in PROMPTS]
        together = await asyncio.gather(*(toy.write(p) for p in PROMPTS))
        for i, prompt in enumerate(PROMPTS):
            assert_same(after[i], expected[i], f"after others, {prompt[-12:]!r}")
            assert_same(together[i], expected[i], f"beside others, {prompt[-12:]!r}")
        cached = [a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in after]
        heads = [0] + [len(HEAD) + len("Question ")] * 7 + [120, 180]
        assert cached == ([0] * len(PROMPTS) if warned else heads)
        shared_once = len(HEAD) + len("Question ") + 8 * (len("0?") + OUT - 1) + 2 * (len("!") + OUT - 1)
        assert (await counters(toy.client))["cells_used"] == (0 if warned else pytest.approx(shared_once, abs=OUT))
    assert list((tmp_path / "run").iterdir()) == []


async def test_a_window_that_has_moved_on_leaves_no_hole_in_what_it_passed(tmp_path: Path) -> None:
    """Cells behind a window are what llama.cpp hands to whoever needs room, unless two sequences hold them."""
    cut = HEAD[:80] + "!"
    async with running(toy_models.sliding(tmp_path / "toy.gguf"), tmp_path / "run") as toy:
        expected = await toy.write(cut, cache_salt="alone")
        await toy.flush("alone")
        await toy.write(HEAD[::-1][:120], cache_salt="first")
        await toy.write(HEAD, cache_salt="kept")
        await toy.flush("first")  # now there is room before what is kept, but not enough for the next
        await toy.write(HEAD[::-1], cache_salt="next")
        reply = await toy.write(cut, cache_salt="kept")
        assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == 80
        assert_same(reply, expected, "where the window has passed")


@pytest.mark.parametrize("make", [toy_models.recurrent, toy_models.hybrid, toy_models.sliding])
async def test_choices_masks_and_hang_ups_leave_the_memory_right(make: Callable[[Path], Path], tmp_path: Path) -> None:
    async with running(make(tmp_path / "toy.gguf"), tmp_path / "run") as toy:
        expected = await toy.write(PROMPTS[0])
        plain = {"logprobs": None, "ignore_eos": False}
        labels = ["red", "redder", "blue"]
        answer = await toy.write(PROMPTS[1], structured_outputs={"choice": labels}, **plain)
        assert answer["choices"][0]["text"] in labels
        answer = await toy.write(PROMPTS[2], structured_outputs={"regex": "[0-9]{5}"}, **plain)
        assert answer["choices"][0]["text"].isdigit()
        for wait_s in (0.01, 0.03, 0.09):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await toy.write(PROMPTS[3], max_tokens=200)
        assert_same(await toy.write(PROMPTS[0]), expected, "after a hang-up")
