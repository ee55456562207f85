"""Replies of a real model obey their grammar, whatever it would rather write."""

from __future__ import annotations

import asyncio
import json
import random
import re

import httpx
import pytest

from rlm_local.engine.launch import LlamaEngine
from rlm_local.errors import EngineRefused
from rlm_local.types import Completion, Message, ReplyStop, Role, Sampling

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

TURN = """
start: PROSE? "```repl\\n" code "```"
PROSE: /[^`\\n]{1,120}\\n/
code: LINE+
LINE: /[^`\\n]{1,60}\\n/
"""


def random_regex(chance: random.Random, depth: int = 2) -> str:
    """A regular expression that Python and llguidance read alike, with a bounded language."""
    if depth == 0:
        return chance.choice(["[a-f]{1,3}", "[0-9]{2}", "yes", "é", " ", "no", "=", "x{0,2}"])
    parts = [random_regex(chance, depth - 1) for _ in range(chance.randrange(1, 4))]
    return chance.choice(["".join(parts), f"({'|'.join(parts)})", f"({''.join(parts)}){{1,2}}"])


async def write(engine: LlamaEngine, grammar: str, *, seed: int = 0, temperature: float = 1.5, max_tokens: int = 120):
    message = Message(Role.USER, "Write whatever you like.")
    return await engine.complete(
        Completion((message,), max_tokens, Sampling(temperature=temperature, seed=seed), grammar)
    )


@pytest.mark.parametrize("seed", range(12))
async def test_a_hot_model_obeys_a_random_grammar(smollm: LlamaEngine, seed: int) -> None:
    pattern = random_regex(random.Random(seed))
    reply = await write(smollm, f"start: /{pattern}/", seed=seed)
    assert reply.stop is ReplyStop.COMPLETE
    assert re.fullmatch(pattern, reply.text)


@pytest.mark.parametrize("seed", range(3))
async def test_a_hot_model_writes_a_turn_and_stops_at_the_closing_fence(smollm: LlamaEngine, seed: int) -> None:
    reply = await write(smollm, TURN, seed=seed, max_tokens=150)
    if reply.stop is ReplyStop.COMPLETE:
        assert re.fullmatch(r"([^`\n]{1,120}\n)?```repl\n([^`\n]{1,60}\n)+```", reply.text)
    else:  # nothing forbids ever more lines
        assert reply.usage.completion_tokens == 150


async def test_a_large_vocabulary_obeys_too(qwen: LlamaEngine) -> None:
    reply = await write(qwen, TURN, temperature=0, max_tokens=40)
    assert reply.text.startswith("```repl\n") or "\n```repl\n" in reply.text


@pytest.mark.parametrize(
    ("structured", "obeys"),
    [
        ({"regex": "[0-9]{4}-[0-9]{2}"}, lambda text: re.fullmatch(r"\d{4}-\d{2}", text)),
        ({"choice": ["red", 'a "quoted" one', "grün"]}, lambda text: text in ("red", 'a "quoted" one', "grün")),
        (
            {"json": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
                      "additionalProperties": False}},
            lambda text: isinstance(json.loads(text)["n"], int),
        ),
    ],
    ids=["regex", "choice", "json"],
)  # fmt: skip
async def test_the_other_dialects(raw: httpx.AsyncClient, structured, obeys) -> None:
    body = {"messages": [{"role": "user", "content": "Go."}], "max_tokens": 100, "structured_outputs": structured}
    answer = (await raw.post("/v1/chat/completions", json=body | {"temperature": 0.7, "seed": 1})).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert obeys(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("grammar", ["start: nowhere", "start: /(/", "", "start: (", 'start: "a" start'])
async def test_a_grammar_that_does_not_compile_is_refused_and_the_next_one_runs(
    smollm: LlamaEngine, grammar: str
) -> None:
    with pytest.raises(EngineRefused, match="grammar"):
        await write(smollm, grammar)
    assert (await write(smollm, 'start: "ok"')).text == "ok"


async def test_requests_that_come_together_are_all_answered(smollm: LlamaEngine) -> None:
    replies = await asyncio.gather(*(write(smollm, f'start: "reply {i}"') for i in range(8)))
    assert [reply.text for reply in replies] == [f"reply {i}" for i in range(8)]
