"""`python -m bench runtime-cost`: what the runtime itself costs, with a model that answers at once.

A turn and a sub-call are timed in a run with a real jail and a trace on the disk, many times: medians and quartiles, of
the wall's seconds and of those of this process's processor, which other work on the machine moves less. Memory is
measured of another process that asks once about a document of the size that is asked for, with its jail: the most that
was held at one moment, by bench.memory.held_bytes, from its start to its end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from bench.memory import held_bytes, read_memory
from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.documents import load
from rlm_local.events import Event, TurnTaken, TurnWritten
from rlm_local.limits import Limits
from rlm_local.ports import ChatEngine
from rlm_local.prompts import load_profile
from rlm_local.runtime import Runtime
from rlm_local.testing import AnsweringEngine
from rlm_local.trace import TraceWriter
from rlm_local.types import Completion, Document, Request, Role

GOAL_TURN_MS, GOAL_SUBCALL_MS, GOAL_MIB = 5.0, 0.5, 60.0
BATCH = 1_000
CHARS_PER_TOKEN = 5.016  # of the speeches that S-NIAH is asked of, by Qwen's tokenizer
WORKED = sum(message.role is Role.ASSISTANT for message in load_profile("small").worked)
CALLS = {
    "llm_query_batched": "made = llm_query_batched([f'lot {n}?' for n in range(%d, %d)])\nprint(len(made))",
    "llm_map": "made = llm_map([f'lot {n}' for n in range(%d, %d)], 'price')\nprint(len(made))",
    "llm_classify": "made = llm_classify([f'lot {n}' for n in range(%d, %d)], ['odd', 'even'])\nprint(len(made))",
}
DOCUMENTS = {"of ASCII": "", "with a dash of two bytes in it": " \u2014 "}
# Every way of searching, and an answer that is cited: whatever looks through all of a document.
LOOK = """found = search(["needle", "THE  NEEDLE", "what number has the needle, if any"], show=False)
print(len(found), found[0].text)"""
_EVERY_S = 0.02
_ASK = "from bench.runtime_cost import ask_once; ask_once(__import__('pathlib').Path(__import__('sys').argv[1]))"


@dataclass(frozen=True, slots=True)
class Timed:
    """Milliseconds of one thing."""

    times: int
    wall_ms: float  # median
    cpu_ms: float  # median, of this process alone
    wall_quartiles_ms: tuple[float, float]
    cpu_quartiles_ms: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Held:
    """The memory of a run about one document."""

    document_mib: float  # of the file
    peak_mib: float  # of host and jail together, the document included
    above_mib: float
    host_resident_mib: float  # the host's own largest resident size


@dataclass(frozen=True, slots=True)
class Costs:
    turn: Timed
    subcall: dict[str, Timed]  # by call: a cell's time through its items
    documents: dict[str, Held]


class _Watch:
    """A Recorder that keeps a trace and notes when each turn's code began and was over."""

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self.taken: list[tuple[float, float]] = []
        self.written: list[tuple[float, float]] = []

    def write(self, event: Event) -> None:
        self._writer.write(event)
        now = (time.perf_counter(), time.process_time())
        if isinstance(event, TurnTaken):
            self.taken.append(now)
        elif isinstance(event, TurnWritten):
            self.written.append(now)


async def measure(
    *, turns: int, batches: int, tokens: int, seed: int = 0, say: Callable[[str], None] = lambda _: None
) -> Costs:
    """Measure all. batches: of a thousand sub-calls, for each call; tokens: of the documents, for memory."""
    with TemporaryDirectory(prefix="rlm-local-cost-") as name:
        folder = Path(name)
        watch = await _watched(folder / "turns.jsonl", [f"x{n} = {n}\nprint(x{n})" for n in range(turns)])
        turn = _timed([_between(one, other) for one, other in itertools.pairwise(watch.taken[:turns])])
        say(f"a turn: {_told(turn)}")
        subcall = {}
        for call, code in CALLS.items():
            cells = ["print(1)", *(code % (start, start + BATCH) for start in range(0, batches * BATCH, BATCH))]
            watch = await _watched(folder / f"{call}.jsonl", cells)
            spans = list(zip(watch.written, watch.taken, strict=True))[1 : batches + 1]
            subcall[call] = _timed([_between(begun, over) for begun, over in spans], BATCH)
            say(f"a sub-call of {BATCH:,} in one {call}: {_told(subcall[call])}")
        documents = {}
        for number, (kind, odd) in enumerate(DOCUMENTS.items()):
            path = folder / f"document{number}.txt"
            path.write_text(_text(int(tokens * CHARS_PER_TOKEN), odd, random.Random(seed)))
            held = documents[kind] = await asyncio.to_thread(_held, path)
            say(f"{held.document_mib} MiB {kind}: {held.peak_mib} MiB in all, {held.above_mib} above")
    return Costs(turn, subcall, documents)


def ask_once(path: Path) -> None:
    """Ask one question about a file; what the measured process does. Prints its largest resident size in bytes."""
    documents = load([str(path)], strict=True, stdin=sys.stdin.buffer).documents
    asyncio.run(_run(documents, [LOOK], path.with_suffix(".jsonl")))
    sys.stdout.write(f"{read_memory(os.getpid()).high_water}\n")


async def _watched(trace: Path, cells: list[str]) -> _Watch:
    return await _run((Document("lots", "Lot 1 was sold.\n" * 100),), cells, trace)


async def _run(documents: tuple[Document, ...], cells: list[str], trace: Path) -> _Watch:
    def answer(completion: Completion) -> str:
        if completion.choices:
            return completion.choices[len(completion.messages[-1].content) % 2]
        if not completion.grammar:
            return "30"
        turn = sum(message.role is Role.ASSISTANT for message in completion.messages) - WORKED
        return f"```repl\n{cells[turn]}\n```" if turn < len(cells) else 'FINAL("4711")'

    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    engine = cast("ChatEngine", AnsweringEngine(answer, window_tokens=1_000_000))  # a run needs no chat
    limits = Limits(max_turns=len(cells) + 2, max_tokens=10**12, max_subcalls=len(cells) * BATCH, wall_s=3_000.0)
    with TraceWriter(trace) as writer:
        watch = _Watch(writer)
        request = Request("Which lot was sold?", documents, limits)
        await Runtime(card, load_profile("small"), engine, "0" * 64).ask(request, watch)
    return watch


def _between(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return (other[0] - one[0]) * 1_000, (other[1] - one[1]) * 1_000


def _timed(pairs: Sequence[tuple[float, float]], parts: int = 1) -> Timed:
    """Return what pairs of milliseconds, of the wall and of the processor, come to for one of so many parts."""
    wall, cpu = ([value / parts for value in values] for values in zip(*pairs, strict=True))
    return Timed(len(pairs), _middle(wall)[1], _middle(cpu)[1], _middle(wall)[::2], _middle(cpu)[::2])


def _middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * list(values)
    return round(low, 4), round(median, 4), round(high, 4)


def _told(timed: Timed) -> str:
    wall, cpu = timed.wall_quartiles_ms, timed.cpu_quartiles_ms
    return (
        f"{timed.wall_ms} ms ({wall[0]} to {wall[1]}), {timed.cpu_ms} ms ({cpu[0]} to {cpu[1]}) of this process's "
        f"processor, median and quartiles of {timed.times}"
    )


def _text(chars: int, odd: str, draw: random.Random) -> str:
    """Return a text of about so many characters, `odd` in every twelve words."""
    words = [f"word{number}" for number in range(5_000)]
    lines = [" ".join(draw.choices(words, k=12)) + odd for _ in range(2_000)]
    block = "\n".join(lines) + "\n"
    return block * (chars // len(block)) + "the needle is 4711\n"


def _held_now(asking: subprocess.Popen[str]) -> int:
    """Return what is held while the process stands still: what it moves meanwhile would be counted twice."""
    asking.send_signal(signal.SIGSTOP)
    try:
        return held_bytes(asking.pid)
    finally:
        asking.send_signal(signal.SIGCONT)


def _held(path: Path) -> Held:
    """Return what a process that asks once held, and those below it."""
    with subprocess.Popen([sys.executable, "-c", _ASK, str(path)], stdout=subprocess.PIPE, text=True) as asking:
        peak = 0
        while asking.poll() is None:
            peak = max(peak, _held_now(asking))
            time.sleep(_EVERY_S)
        assert asking.stdout is not None
        told = asking.stdout.read().strip()
    if asking.returncode:
        raise RuntimeError(f"the process that asks ended with {asking.returncode}")
    size = path.stat().st_size
    return Held(*(round(count / (1 << 20), 1) for count in (size, peak, peak - size, int(told))))
