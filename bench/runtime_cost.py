"""`python -m bench runtime-cost`: what the runtime itself costs, with a model that answers at once.

A turn and a sub-call are timed in a run with a real jail and a trace on the disk. The seconds are those of the wall,
and beside them those of this process's processor, which other work on the machine moves less. Memory is measured of
another process that asks once about a document of the size that is asked for, with its jail: the largest sum of their
proportional set sizes, in which pages that several share are counted once.
"""

from __future__ import annotations

import asyncio
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

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
    "llm_query_batched": f"made = llm_query_batched([f'lot {{n}}?' for n in range({BATCH})])\nprint(len(made))",
    "llm_map": f"made = llm_map([f'lot {{n}}' for n in range({BATCH})], 'price')\nprint(len(made))",
    "llm_classify": f"made = llm_classify([f'lot {{n}}' for n in range({BATCH})], ['odd', 'even'])\nprint(len(made))",
}
_EVERY_S = 0.02
_ASK = "from bench.runtime_cost import ask_once; ask_once(__import__('pathlib').Path(__import__('sys').argv[1]))"


@dataclass(frozen=True, slots=True)
class Timed:
    """Milliseconds of one thing."""

    wall_ms: float
    cpu_ms: float  # of this process alone


@dataclass(frozen=True, slots=True)
class Costs:
    turns: int
    turn: Timed  # medians
    subcall: dict[str, Timed]  # by call: the cell's time through its thousand items
    document_mib: float
    peak_mib: float  # of host and jail together, the document included
    above_mib: float
    host_high_water_mib: float  # largest resident size that the asking process ever had


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


async def measure(*, turns: int, tokens: int, seed: int = 0, say: Callable[[str], None] = lambda _: None) -> Costs:
    """Measure all. tokens: of the document whose memory is looked at."""
    with TemporaryDirectory(prefix="rlm-local-cost-") as name:
        folder = Path(name)
        watch = await _watched(folder / "turns.jsonl", [f"x{n} = {n}\nprint(x{n})" for n in range(turns)])
        each = [_between(one, other) for one, other in zip(watch.taken, watch.taken[1:], strict=False)]
        turn = Timed(*(round(statistics.median(values), 3) for values in zip(*each, strict=True)))
        say(f"a turn: {turn.wall_ms} ms, {turn.cpu_ms} ms of this process's processor, median of {len(each)}")
        subcall = {}
        for call, code in CALLS.items():
            watch = await _watched(folder / f"{call}.jsonl", ["print(1)", code])
            wall_ms, cpu_ms = _between(watch.written[1], watch.taken[1])
            subcall[call] = Timed(round(wall_ms / BATCH, 4), round(cpu_ms / BATCH, 4))
            say(f"a sub-call of {BATCH:,} in one {call}: {subcall[call].wall_ms} ms, {subcall[call].cpu_ms} ms of ours")
        path = folder / "document.txt"
        path.write_text(_text(int(tokens * CHARS_PER_TOKEN), random.Random(seed)))
        document, peak, high = path.stat().st_size / (1 << 20), *await asyncio.to_thread(_peak_mib, path)
        say(f"{document:.1f} MiB of documents: {peak:.1f} MiB in all, {peak - document:.1f} above")
    rounded = (round(one, 1) for one in (document, peak, peak - document, high))
    return Costs(turns, turn, subcall, *rounded)


def ask_once(path: Path) -> None:
    """Ask one question about a file; what the measured process does. Prints its largest resident size in KiB."""
    documents = load([str(path)], strict=True, stdin=sys.stdin.buffer).documents
    code = 'found = search("needle", show=False)\nprint(len(found), found[0].text)'
    asyncio.run(_run(documents, [code], path.with_suffix(".jsonl")))
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")


async def _watched(trace: Path, cells: list[str]) -> _Watch:
    return await _run((Document("lots", "Lot 1 was sold.\n" * 100),), cells, trace)


async def _run(documents: tuple[Document, ...], cells: list[str], trace: Path) -> _Watch:
    def answer(completion: Completion) -> str:
        if completion.choices:
            return completion.choices[len(completion.messages[-1].content) % 2]
        if not completion.grammar:
            return "30"
        turn = sum(message.role is Role.ASSISTANT for message in completion.messages) - WORKED
        return f"```repl\n{cells[turn]}\n```" if turn < len(cells) else 'FINAL("Lot 1")'

    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    engine = cast("ChatEngine", AnsweringEngine(answer, window_tokens=1_000_000))  # a run needs no chat
    limits = Limits(max_turns=len(cells) + 2, max_tokens=10**12, max_subcalls=10 * BATCH, wall_s=3_000.0)
    with TraceWriter(trace) as writer:
        watch = _Watch(writer)
        request = Request("Which lot was sold?", documents, limits)
        await Runtime(card, load_profile("small"), engine, "0" * 64).ask(request, watch)
    return watch


def _between(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return (other[0] - one[0]) * 1_000, (other[1] - one[1]) * 1_000


def _text(chars: int, draw: random.Random) -> str:
    words = [f"word{number}" for number in range(5_000)]
    lines = [" ".join(draw.choices(words, k=12)) for _ in range(2_000)]
    block = "\n".join(lines) + "\n"
    return block * (chars // len(block)) + "the needle is 4711\n"


def _peak_mib(path: Path) -> tuple[float, float]:
    """Return the largest sum of proportional set sizes of a process that asks, and of those below it; and its own
    largest resident size."""
    with subprocess.Popen([sys.executable, "-c", _ASK, str(path)], stdout=subprocess.PIPE, text=True) as asking:
        peak = 0
        while asking.poll() is None:
            peak = max(peak, sum(_pss_kib(pid) for pid in _below(asking.pid)))
            time.sleep(_EVERY_S)
        assert asking.stdout is not None
        told = asking.stdout.read().strip()
    if asking.returncode:
        raise RuntimeError(f"the process that asks ended with {asking.returncode}")
    return peak / 1024, int(told) / 1024


def _below(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                yield from _below(int(child))
        except OSError:  # it has ended in between
            continue


def _pss_kib(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
