"""`python -m bench killed-runs`: runs of 64 sub-calls that SIGKILL ends at random points, and what becomes of them.

Each run is a process of its own with a real jail, and kills itself when it is about to write the event of some number;
every third leaves half a line behind. Then another process lets it go on from its trace. The model is a table: what it
says depends on the request alone, as at temperature 0. The processes are forked from one that has started nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.cli.running import as_object
from rlm_local.events import Event, ItemsReplied, Replied
from rlm_local.limits import Limits
from rlm_local.ports import ChatEngine
from rlm_local.prompts import load_profile
from rlm_local.resume import read_again
from rlm_local.runtime import Runtime
from rlm_local.testing import AnsweringEngine
from rlm_local.trace import TraceWriter, Written, read_trace
from rlm_local.types import Answer, Completion, Document, Request, Role

SUBCALLS = 64
TEXT = "".join(f"Lot {number} was sold.\n" for number in range(SUBCALLS))
TURNS = (
    'first = llm_query_batched([f"price of lot {n}?" for n in range(16)])\nprint(first)',
    'second = [llm_query(f"price of lot {n}?") for n in range(16, 24)]\nprint(len(second))',
    'third = llm_map([f"price of lot {n}?" for n in range(24, 64)], "answer")\n'
    "total = sum(map(int, first + second + third))\nprint(total)",
)
WORKED = sum(message.role is Role.ASSISTANT for message in load_profile("small").worked)
# Few at one time: so items of a frame come in many events, and a run can be killed between any two of them.
LIMITS = Limits(max_tokens=10_000_000, wall_s=3_000.0, cell_s=600.0, max_concurrency=4)
HALF_A_LINE = b'{"v":4,"seq":'


@dataclass(frozen=True, slots=True)
class Killed:
    """A run that was killed and went on."""

    point: int  # the event that it was about to write
    ended: int  # exit code of its first process, -9 for SIGKILL
    resumed: int  # of its second
    paid: int  # replies in its trace
    paid_once: int  # requests among them
    is_same: bool  # answer, citations, coverage and usage are those of the whole run, but for the seconds

    @property
    def is_right(self) -> bool:
        return self.is_same and self.ended == -signal.SIGKILL and self.resumed == 0 and self.paid == self.paid_once


@dataclass(frozen=True, slots=True)
class Kills:
    """What all of them came to."""

    events: int  # of the whole run
    requests: int  # that it paid for: sub-calls and turns
    runs: tuple[Killed, ...]

    def faults(self) -> list[str]:
        """Return what is not as it must be, a line each."""
        wrong = [f"killed at event {run.point}: {run}" for run in self.runs if not run.is_right]
        wrong += [
            f"killed at event {run.point}: {run.paid} requests were paid for, and {self.requests} by the whole run"
            for run in self.runs
            if run.paid != self.requests
        ]
        return wrong


def kill_and_resume(kills: int, seed: int, say: Callable[[str], None]) -> Kills:
    """Kill a run at so many points of its length, drawn by `seed`, and let each go on."""
    with TemporaryDirectory(prefix="rlm-local-killed-") as name:
        folder = Path(name)
        path = folder / "lots.txt"
        path.write_text(TEXT)
        document = Document(path.name, TEXT, str(path))
        whole = folder / "whole.jsonl"
        code = _in_a_process(lambda: asyncio.run(_run(document, whole, 0)), folder / "whole.json")
        if code:
            raise RuntimeError(f"the run that nobody kills ended with {code}")
        events, requests = read_trace(whole).events, len(_paid(whole))
        say(f"the whole run: {len(events)} events, {requests} requests")
        points = random.Random(seed).sample(range(2, len(events)), kills)
        told = json.loads((folder / "whole.json").read_text())
        runs = []
        for number, point in enumerate(points, start=1):
            runs.append(_killed(folder, document, point, told, is_torn=number % 3 == 0))
            say(f"{number} of {kills}: killed at event {point}, {'as it must be' if runs[-1].is_right else runs[-1]}")
    return Kills(len(events), requests, tuple(runs))


def _killed(folder: Path, document: Document, point: int, whole: dict[str, Any], *, is_torn: bool) -> Killed:
    trace, report = folder / f"{point}.jsonl", folder / f"{point}.json"
    ended = _in_a_process(lambda: asyncio.run(_run(document, trace, point)), report)
    if is_torn:
        with trace.open("ab") as file:
            file.write(HALF_A_LINE)
    resumed = _in_a_process(lambda: asyncio.run(_go_on(trace)), report)
    told = json.loads(report.read_text()) if report.exists() else {}
    paid = Counter(_paid(trace))
    return Killed(point, ended, resumed, paid.total(), len(paid), _timeless(told) == _timeless(whole))


def _timeless(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "usage": {**answer.get("usage", {}), "wall_s": 0}}


def _paid(trace: Path) -> list[str]:
    """Return the requests that a trace tells the replies to."""
    return [request for event in read_trace(trace).events for request in _requests(event)]


def _requests(event: Event) -> Iterator[str]:
    match event:
        case Replied():
            yield event.request
        case ItemsReplied():
            yield from (item.request for item in event.replies)


def _answer(completion: Completion) -> str:
    """Play root and sub-model."""
    last = completion.messages[-1].content
    if asked := re.fullmatch(r"price of lot (\d+)\?", last):
        return str(int(asked[1]) ** 2)
    turn = sum(message.role is Role.ASSISTANT for message in completion.messages) - WORKED
    return f"```repl\n{TURNS[turn]}\n```" if turn < len(TURNS) else "FINAL_VAR(total)"


class _Killing:
    """A recorder whose process dies by SIGKILL in the place of one event."""

    def __init__(self, writer: TraceWriter, point: int) -> None:
        self._writer = writer
        self._left = point

    def write(self, event: Event) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._writer.write(event)


def _runtime() -> Runtime:
    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    engine = AnsweringEngine(_answer, tokens_each=10, window_tokens=32_000)
    return Runtime(card, load_profile("small"), cast("ChatEngine", engine), "0" * 64)  # a run needs no chat


async def _run(document: Document, trace: Path, point: int) -> Answer:
    with TraceWriter(trace) as writer:
        recorder = _Killing(writer, point) if point else writer
        return await _runtime().ask(Request("What did all lots cost?", (document,), LIMITS), recorder)


async def _go_on(trace: Path) -> Answer:
    read = read_trace(trace)
    again = read_again(read)
    with TraceWriter(trace, behind=Written(len(read.events), read.whole_bytes, read.times_s[-1])) as writer:
        return await _runtime().ask(again.request, writer, past=again.past())


def _in_a_process(work: Callable[[], Answer], report: Path) -> int:
    """Return how a forked process ended that does the work and writes its answer."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            report.write_text(json.dumps(as_object(work(), Path())))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
