"""A run with a scripted model in a real jail: what dies while a cell runs does not end the run."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.errors import ConfigError, JailUnavailable
from rlm_local.events import RunStarted, TurnTaken, TurnWritten
from rlm_local.jail import JailPool
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.runtime import Runtime, require_room
from rlm_local.testing import KeptEvents, ScriptedEngine
from rlm_local.types import Answer, CellStatus, Document, Request, StopReason, Stretch

pytestmark = pytest.mark.jail

LEASE = Document("lease.txt", "The notice period is ninety days.\n")
REMEMBER = '```repl\nkept = search("notice period", show=False)\nprint("ninety days", len(kept))\n```'
SPIN = "```repl\nwhile True: pass\n```"
RECALL = "```repl\nprint('ninety days', len(kept))\n```"


@pytest.fixture
def limits() -> Limits:
    return Limits(max_tokens=1_000_000, wall_s=60.0)


async def ask(engine: ScriptedEngine, recorder: KeptEvents, limits: Limits, *, jails: JailPool | None = None) -> Answer:
    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    runtime = Runtime(card, load_profile("small"), engine, "0" * 64, jails=jails)
    return await runtime.ask(Request("How long is the notice period?", (LEASE,), limits), recorder)


@pytest.mark.parametrize("victim", ["worker", "nsjail"])
async def test_a_jail_that_is_killed_during_a_cell_is_rebuilt_with_what_earlier_cells_made(
    nsjail: None, limits: Limits, victim: str
) -> None:
    engine = ScriptedEngine([REMEMBER, SPIN, RECALL, 'FINAL("ninety days")'], window_tokens=32_000)
    recorder = KeptEvents()
    run = asyncio.create_task(ask(engine, recorder, limits))
    worker = await spinning_worker()
    assert len(of(recorder, TurnWritten)) == 2
    os.kill(worker if victim == "worker" else parent(worker), signal.SIGKILL)
    answer = await run
    assert [turn.turn.result.status for turn in of(recorder, TurnTaken) if turn.turn.result] == [
        CellStatus.OK,
        CellStatus.KILLED,
        CellStatus.OK,
    ]
    assert of(recorder, TurnTaken)[2].turn.result.stdout == "ninety days 1\n"
    assert (answer.value, answer.stop, answer.confirmed) == ("ninety days", StopReason.FINAL, True)
    assert "ended its Python process" in engine.completions[2].messages[-1].content
    assert list(workers()) == []


async def test_each_run_has_a_jail_that_has_waited_for_it(nsjail: None, limits: Limits) -> None:
    async with JailPool(1) as jails:
        for _ in range(2):
            await jails.full()
            engine = ScriptedEngine([REMEMBER, RECALL, 'FINAL("ninety days")'], window_tokens=32_000)
            answer = await ask(engine, KeptEvents(), limits, jails=jails)
            assert (answer.value, answer.confirmed) == ("ninety days", True)
        assert (jails.counts.taken, jails.counts.missed) == (2, 0)
    assert list(workers()) == []


def test_documents_that_memory_cannot_hold_twice_are_refused_with_both_numbers() -> None:
    documents = (Document("a", "x" * (3 << 20)),)
    require_room(documents, 4 << 20)
    with pytest.raises(ConfigError, match=r"take 0\.0 GiB of memory for their jail, but 0\.0 GiB are available"):
        require_room(documents, 2 << 20)


async def test_a_run_that_is_cancelled_leaves_no_worker(nsjail: None, limits: Limits) -> None:
    run = asyncio.create_task(ask(ScriptedEngine([SPIN], window_tokens=32_000), KeptEvents(), limits))
    await spinning_worker()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert list(workers()) == []


async def test_a_jail_that_does_not_start_ends_the_run_before_it_began_and_nothing_was_asked(
    limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", "/bin/true")
    engine, recorder = ScriptedEngine([]), KeptEvents()
    with pytest.raises(JailUnavailable, match="no jail could be started") as refused:
        await ask(engine, recorder, limits)
    assert refused.value.hint.startswith("unset RLM_LOCAL_NSJAIL")
    assert (recorder.events, engine.completions) == ([], [])


async def test_the_first_event_tells_what_is_asked_of_which_documents(nsjail: None, limits: Limits) -> None:
    recorder = KeptEvents()
    engine = ScriptedEngine([REMEMBER, 'FINAL("ninety days")'], window_tokens=32_000)
    answer = await ask(engine, recorder, limits)
    (started,) = of(recorder, RunStarted)
    assert recorder.events[0] is started
    assert [(one.name, one.chars) for one in started.documents] == [(LEASE.name, len(LEASE.text))]
    assert [one.quote for one in answer.citations] == ["The notice period is ninety days."]


def of(recorder: KeptEvents, kind: type) -> list[Any]:
    return [event for event in recorder.events if isinstance(event, kind)]


def workers() -> Iterator[int]:
    """Yield the workers below this process: grandchildren, since nsjail stands between."""
    for nsjail in children(os.getpid()):
        for child in children(nsjail):
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"/python/bin/"):
                yield child


async def spinning_worker() -> int:
    """Return the worker as soon as a cell keeps it busy: it has then used more time than starting takes."""
    async with asyncio.timeout(30):
        while not (busy := [worker for worker in workers() if cpu_s(worker) > 0.5]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # what is waited for happens in another process
    return busy[0]


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.glob("*/children") for child in task.read_text().split()]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_an_answer_tells_what_was_read_and_an_unread_rest_can_forbid_to_confirm_it(
    nsjail: None, limits: Limits
) -> None:
    letter = Document("letter.txt", "Dear tenant, the heating will be repaired on Monday at nine.\n")
    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    answers = []
    for share in (0.3, 0.95):
        engine = ScriptedEngine(
            ["```repl\nprint(documents[0].text)\n```", 'FINAL("ninety days")'], window_tokens=32_000
        )
        runtime = Runtime(card, load_profile("small"), engine, "0" * 64)
        request = Request("How long is it?", (LEASE, letter), limits, require_coverage=share)
        answers.append(await runtime.ask(request, KeptEvents()))
    lease, other = answers[0].coverage
    assert (lease.printed, other.untouched) == ((Stretch(0, 33),), (Stretch(0, len(letter.text)),))
    assert [answer.confirmed for answer in answers] == [True, False]
    assert answers[1].reason == "34.7% of the characters were read by a model, but 95.0% are required"
