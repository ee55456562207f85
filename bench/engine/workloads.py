"""The workloads whose time is compared: the same requests to every server, and the work that nobody can avoid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.engine.servers import Reply, Server
from bench.engine.texts import Texts, Tokenizer

FAN_HEAD, FAN_SUFFIX, FAN_OUT = 936, 25, 32
FAN_CALLS = 32
ROOT_FIRST, ROOT_LAST, ROOT_TURNS, ROOT_OUT = 1_200, 3_000, 6, 60
INSTRUCTION, CHUNK, SUB_OUT, SUB_CALLS = 500, 40, 32, 16
CLASSIFY_HEAD, CLASSIFY_LINES = 260, 500
LABELS = (" location", " number", " person", " entity", " description", " abbreviation")
QUESTIONS = "trec/train_5500.label"


@dataclass(frozen=True, slots=True)
class Work:
    """What a workload asks of any server: tokens that must be read, and tokens written by how many go together."""

    read: int
    written: dict[int, int] = field(default_factory=dict)

    def floor_s(self, read_rate: float, write_rates: dict[int, float], *, best: bool = False) -> float:
        """Return the least time in which a machine of these rates (tokens/s) can do it.

        best: all tokens are written at the best rate of any batch, which dependent tokens could not be.
        """
        top = max(write_rates.values())
        return self.read / read_rate + sum(
            count / (top if best else write_rates[rows]) for rows, count in self.written.items()
        )


@dataclass(frozen=True, slots=True)
class Timed:
    wall_s: float
    requests: int
    prompt_tokens: int
    cached_tokens: int | None
    completion_tokens: int
    work: Work


async def fan_out(server: Server, tokenizer: Tokenizer, scale: float, seed: object) -> Timed:
    """Many short questions under one long instruction, all known from the start."""
    calls = max(2, round(FAN_CALLS * scale))
    texts = Texts(tokenizer, seed)
    head = texts.some(FAN_HEAD)
    prompts = [head + texts.some(FAN_SUFFIX) for _ in range(calls)]
    began = time.perf_counter()
    replies = await _all(server, prompts, FAN_OUT)
    wall_s = time.perf_counter() - began
    # The first token of a reply comes of reading the prompt.
    work = Work(FAN_HEAD + calls * FAN_SUFFIX, {calls: calls * (FAN_OUT - 1)})
    return _timed(wall_s, replies, work)


async def rlm_trace(server: Server, tokenizer: Tokenizer, scale: float, seed: object) -> Timed:
    """A root conversation that grows with what its sub-calls say; each turn's sub-calls share an instruction."""
    calls = max(2, round(SUB_CALLS * scale))
    texts = Texts(tokenizer, seed)
    instructions = [texts.some(INSTRUCTION) for _ in range(2)]
    told = (ROOT_LAST - ROOT_FIRST) // (ROOT_TURNS - 1) - ROOT_OUT  # tokens of an observation
    root = texts.some(ROOT_FIRST)
    replies: list[Reply] = []
    began = time.perf_counter()
    for turn in range(ROOT_TURNS):
        said = await server.write(root, out=ROOT_OUT)
        prompts = [instructions[turn % 2] + texts.some(CHUNK) for _ in range(calls)]
        replies += [said, *await _all(server, prompts, SUB_OUT)]
        root += said.text + texts.some(told)
    wall_s = time.perf_counter() - began
    # A root's reply is in memory already when it comes back as part of the next prompt, but for its last token.
    read = ROOT_FIRST + (ROOT_TURNS - 1) * (told + 1) + 2 * INSTRUCTION + ROOT_TURNS * calls * CHUNK
    written = {1: ROOT_TURNS * (ROOT_OUT - 1), calls: ROOT_TURNS * calls * (SUB_OUT - 1)}
    return _timed(wall_s, replies, Work(read, written))


async def classify(server: Server, tokenizer: Tokenizer, scale: float, seed: object, data: Path) -> Timed:
    """One-line questions under a shared instruction, each to be answered by one of six labels."""
    lines = max(2, round(CLASSIFY_LINES * scale))
    texts = Texts(tokenizer, seed)
    task = "What does each question ask for: a" + " or a".join(LABELS) + "?"
    head = texts.some(CLASSIFY_HEAD - len(tokenizer(task))) + task
    prompts = [f"{head}\nQuestion: {question}\nIt asks for a" for question in questions(data, lines, texts)]
    most = max(len(tokenizer(label)) for label in LABELS)
    began = time.perf_counter()
    if server.at_once:
        replies = await asyncio.gather(*(server.choose(prompt, LABELS, most=most) for prompt in prompts))
    else:
        replies = [await server.choose(prompt, LABELS, most=most) for prompt in prompts]
    wall_s = time.perf_counter() - began
    wrong = [reply.text for reply in replies if reply.text not in LABELS]
    if wrong:
        raise AssertionError(f"{len(wrong)} of {lines} answers are no label, the first is {wrong[0]!r}")
    shared = len(tokenizer(head + "\nQuestion:"))
    read = shared + sum(len(tokenizer(prompt)) - shared for prompt in prompts)
    # To know the probability of a label of several tokens, all but the last of them must be read too.
    inner = {tokenizer(label)[:size] for label in LABELS for size in range(1, len(tokenizer(label)))}
    return _timed(wall_s, replies, Work(read + lines * len(inner)))


def questions(data: Path, count: int, texts: Texts) -> list[str]:
    """Return the first questions of the TREC set where it is there, else as many made-up lines."""
    path = data / QUESTIONS
    if not path.exists():
        return [texts.some(10).strip() + "?" for _ in range(count)]
    lines = path.read_text(encoding="latin-1").splitlines()
    return [line.partition(" ")[2] for line in lines[:count]]


async def _all(server: Server, prompts: Sequence[str], out: int) -> list[Reply]:
    async def write(prompt: str) -> Reply:
        return await server.write(prompt, out=out)

    if not server.at_once:
        return [await write(prompt) for prompt in prompts]
    calls: list[Awaitable[Reply]] = [write(prompt) for prompt in prompts]
    return list(await asyncio.gather(*calls))


def _timed(wall_s: float, replies: Sequence[Reply], work: Work) -> Timed:
    cached = [reply.cached_tokens for reply in replies if reply.cached_tokens is not None]
    return Timed(
        wall_s,
        len(replies),
        sum(reply.prompt_tokens for reply in replies),
        sum(cached) if len(cached) == len(replies) else None,
        sum(reply.completion_tokens for reply in replies),
        work,
    )
