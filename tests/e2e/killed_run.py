"""Runs of 64 sub-calls, each in a process of its own that kills itself, and its going on; a report on stdout.

python tests/e2e/killed_run.py FOLDER POINT...

A run is killed by SIGKILL when it is about to write the event with the number POINT; every third leaves half a line
behind. Forked from a process that has started nothing, so that twenty of them take seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.cli.running import as_object
from rlm_local.events import Event
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.resume import read_again
from rlm_local.runtime import Runtime
from rlm_local.testing import AnsweringEngine
from rlm_local.trace import TraceWriter, Written, read_trace
from rlm_local.types import Answer, Completion, Document, Request, Role

TEXT = "".join(f"Lot {number} was sold.\n" for number in range(64))
TURNS = (
    'first = llm_query_batched([f"price of lot {n}?" for n in range(16)])\nprint(first)',
    'second = [llm_query(f"price of lot {n}?") for n in range(16, 32)]\nprint(len(second))',
    'third = llm_query_batched([f"price of lot {n}?" for n in range(32, 64)])\n'
    "total = sum(map(int, first + second + third))\nprint(total)",
)
SUBCALLS = 64


def answer(completion: Completion) -> str:
    """Play root and sub-model: what is said depends on the request alone, as at temperature 0."""
    last = completion.messages[-1].content
    if asked := re.fullmatch(r"price of lot (\d+)\?", last):
        return str(int(asked[1]) ** 2)
    turn = sum(message.role is Role.ASSISTANT for message in completion.messages) - worked()
    return f"```repl\n{TURNS[turn]}\n```" if turn < len(TURNS) else "FINAL_VAR(total)"


def worked() -> int:
    return sum(message.role is Role.ASSISTANT for message in load_profile("small").worked)


class Killing:
    """A recorder whose process dies by SIGKILL in the place of one event."""

    def __init__(self, writer: TraceWriter, point: int) -> None:
        self._writer = writer
        self._left = point

    def write(self, event: Event) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._writer.write(event)


def runtime() -> Runtime:
    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    return Runtime(card, load_profile("small"), AnsweringEngine(answer, tokens_each=10, window_tokens=32_000), "0" * 64)


async def run(document: Document, trace: Path, point: int) -> Answer:
    limits = Limits(max_tokens=10_000_000, wall_s=3_000.0, cell_s=600.0)
    with TraceWriter(trace) as writer:
        recorder = Killing(writer, point) if point else writer
        return await runtime().ask(Request("What did all lots cost?", (document,), limits), recorder)


async def go_on(trace: Path) -> Answer:
    read = read_trace(trace)
    again = read_again(read)
    with TraceWriter(trace, behind=Written(len(read.events), read.whole_bytes, read.times_s[-1])) as writer:
        return await runtime().ask(again.request, writer, past=again.past())


def in_a_process(work: Callable[[], Answer], report: Path) -> int:
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


def main(folder: Path, points: list[int]) -> None:
    path = folder / "lots.txt"
    path.write_text(TEXT)
    document = Document(path.name, TEXT, str(path))
    for number, point in enumerate([0, *points]):
        trace, report = folder / f"{point}.jsonl", folder / f"{point}.json"
        ended = in_a_process(lambda: asyncio.run(run(document, trace, point)), report)  # noqa: B023
        had = len(read_trace(trace).events)
        if point:
            if number % 3 == 0:
                with trace.open("ab") as file:
                    file.write(b'{"v":4,"seq":')
            resumed = in_a_process(lambda: asyncio.run(go_on(trace)), report)  # noqa: B023
        else:
            resumed = 0
        told = json.loads(report.read_text()) if report.exists() else None
        print(json.dumps({"point": point, "ended": ended, "had": had, "resumed": resumed, "answer": told}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]])
