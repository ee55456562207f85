"""Blocks that a token mask lets through: drawn at random, and written by models that are far too warm."""

from __future__ import annotations

import asyncio
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlm_local.engine.launch import launch_llama
from rlm_local.engine.llama.binding import Model
from rlm_local.engine.llama.mask import Mask
from rlm_local.grammar import TurnState, decode_turn, turn_grammar
from rlm_local.types import Cell, Completion, GrammarMode, Message, ReplyStop, Role, Sampling

OPEN, CLOSE = b"```repl\n", b"```"
FREE_TOKENS = (3, 10, 30, 60)  # of a walk, before it turns to closing what is open
WALK_TOKENS = 300  # a walk that has not ended by then is given up
# What closes, first what closes most. A walk in closing takes the first kind that is allowed.
CLOSING = (rb"```", rb"[)\]}\"']{1,3}", rb"\n", rb"[a-z0-9 ]", rb"[ -~]")
REPLY_TOKENS = 160
TEMPERATURE = 1.5
AT_ONCE = 8  # replies that the engine writes together

SYSTEM = (
    "You write Python to answer questions about a long text. Reply with one block:\n```repl\n<code>\n```\n"
    "Names in place: context (a str), documents, search(pattern), llm_query(prompt), llm_query_batched(prompts)."
)
QUESTIONS = (
    "Count how often each word occurs and print the ten most common.",
    "Which years are mentioned? Use a regular expression.",
    "Define a function that splits the context into chunks and ask llm_query about each chunk who is speaking.",
    "Find all email addresses and group them by domain in a dictionary.",
    "Parse every line 'name: number' to int with try and except, skip those that fail, and print the mean.",
    "Write a class for a document with a name and a text, and a method that counts sentences.",
    "Print a table of the five longest paragraphs with f-strings, aligned in columns.",
    "Write a generator that yields sliding windows over the words, and a decorator that caches a function.",
)


def complaint(turn: str) -> str:
    """Return why a turn's cell, as the jail gets it, does not compile; empty when it does."""
    action = decode_turn(turn, ReplyStop.COMPLETE)
    if not isinstance(action, Cell):
        return f"no cell: {action}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `1 is 1` is odd, and Python
        try:
            compile(action.code, "<cell>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            return f"{type(error).__name__}: {error}"
    return ""


def random_walks(count: int, model: Model, start: Callable[[], Mask], seed: int) -> dict[str, Any]:
    """Walk the mask, each token drawn uniformly from the allowed ones, until `count` walks have closed their block.

    Half of the walks draw a third of their tokens from those that close something, so that they get out of strings.
    """
    walker = _Walker(model, np.random.default_rng(seed))
    said: Counter[str] = Counter()
    ended = begun = characters = 0
    while ended < count:
        begun += 1
        text = walker.walk(start())
        if not text.endswith(CLOSE):
            continue
        ended += 1
        characters += len(text.decode())
        if why := complaint(text.decode()):
            said[f"{why} in {text.decode()[-200:]!r}"] += 1
    unsound = sum(said.values())
    return {"seed": seed, "begun": begun, "ended": ended, "characters": characters, "unsound": unsound, "why": said}


class _Walker:
    def __init__(self, model: Model, chance: np.random.Generator) -> None:
        self._model = model
        self._chance = chance
        self._pieces = [model.piece(token) for token in range(model.vocab_size)]
        self._closing = [
            np.array([token for token, text in enumerate(self._pieces) if re.fullmatch(pattern, text)])
            for pattern in CLOSING
        ]
        self._leaving = np.concatenate(self._closing[:3])
        self._opening = model.tokenize(OPEN.decode(), special=False)

    def walk(self, mask: Mask) -> bytes:
        text = b""
        free = int(self._chance.choice(FREE_TOKENS))
        leave = self._chance.choice((0.0, 0.3))
        for step in range(WALK_TOKENS):
            if mask.finished:
                break
            if step < len(self._opening):
                token = self._opening[step]
            elif step < free + len(self._opening):
                token = self._any(mask, leave)
            else:
                token = self._closer(mask)
            mask.advance(token)
            text += self._pieces[token]
        return text

    def _any(self, mask: Mask, leave: float) -> int:
        allowed = mask.allowed()
        allowed[list(self._model.ends)] = False
        leaving = self._leaving[allowed[self._leaving]] if self._chance.random() < leave else self._leaving[:0]
        return int(self._chance.choice(leaving if len(leaving) else np.flatnonzero(allowed)))

    def _closer(self, mask: Mask) -> int:
        for tokens in self._closing:
            for token in self._chance.permutation(tokens):
                if mask.allows(int(token)):
                    return int(token)
        return self._any(mask, 0.0)


def model_walks(count: int, weights: Path, name: str, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Let a model write `count` turns at temperature 1.5 under the grammar, and compile every block.

    What has not ended by itself within REPLY_TOKENS is ended by the engine, as in a run.
    """
    return asyncio.run(_model_walks(count, weights, name, seed, say))


async def _model_walks(count: int, weights: Path, name: str, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    grammar = turn_grammar(TurnState.FIRST, "lark", GrammarMode.PYTHON)
    said: Counter[str] = Counter()
    stops: Counter[ReplyStop] = Counter()
    cut: dict[int, str] = {}
    tokens = 0

    async def one(number: int) -> None:
        nonlocal tokens
        question = QUESTIONS[number % len(QUESTIONS)]
        messages = (Message(Role.SYSTEM, SYSTEM), Message(Role.USER, question))
        sampling = Sampling(temperature=TEMPERATURE, seed=seed + number)
        async with gate:
            reply = await engine.complete(
                Completion(messages, max_tokens=REPLY_TOKENS, sampling=sampling, grammar=grammar, close_at_limit=True)
            )
        tokens += reply.usage.completion_tokens
        stops[reply.stop] += 1
        if reply.stop is ReplyStop.LENGTH:
            cut[number] = reply.text
        # A reply that was cut has no last fence; one that was ended has, whoever has written it.
        if reply.stop is not ReplyStop.LENGTH and (why := complaint(reply.text)):
            said[f"{why} in {reply.text[-200:]!r}"] += 1
        if number % 100 == 99:
            say(f"{name}: {number + 1} turns")

    gate = asyncio.Semaphore(AT_ONCE)
    with tempfile.TemporaryDirectory() as folder:
        async with launch_llama(weights, name, window_tokens=1024, runtime_dir=Path(folder)) as engine:
            await asyncio.gather(*(one(number) for number in range(count)))
    return {
        "turns": count,
        "ended": {stop.value: stops[stop] for stop in ReplyStop},
        "cut": cut,
        "tokens": tokens,
        "temperature": TEMPERATURE,
        "unsound": sum(said.values()),
        "why": said,
    }
