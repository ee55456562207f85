"""A run that was killed goes on from its trace, in real processes with real jails, and a trace replays to itself."""

# ruff: noqa: ASYNC240 (small files, and nobody else waits)

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.errors import ConfigError, DocumentError, FanOutHeld, TraceError
from rlm_local.events import Event, ItemsReplied, PageDone, TurnStarted, TurnTaken
from rlm_local.jail import NO_PACKAGES, Packages, find_packages
from rlm_local.limits import Limits
from rlm_local.plan import Plan, profile_of
from rlm_local.ports import Engine
from rlm_local.prompts import load_profile
from rlm_local.resume import check_same, check_unfinished, packages_of, read_again, replay
from rlm_local.runtime import Runtime
from rlm_local.testing import AnsweringEngine, ScriptedEngine
from rlm_local.trace import TraceWriter, Written, read_trace
from rlm_local.types import Answer, Completion, Document, Request, Role

pytestmark = pytest.mark.jail

LEASE = "The notice period is ninety days.\n"
LOOK = '```repl\nfound = search("notice", show=False)\nkept = llm_query(found[0].text)\nprint(kept)\n```'
AGAIN = "```repl\nprint(kept, len(found), 'days')\n```"


class Cut(Exception):
    """The run ends here, as its process might."""


class Cutting:
    """A Recorder that fails at the event that the run shall not come to."""

    def __init__(self, writer: TraceWriter, comes_to: Callable[[Event], bool]) -> None:
        self._writer = writer
        self._comes_to = comes_to

    def write(self, event: Event) -> None:
        if not self._comes_to(event):
            raise Cut
        self._writer.write(event)


def runtime(engine: Engine, packages: Packages = NO_PACKAGES) -> Runtime:
    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    return Runtime(card, profile_of(card, packages), engine, "0" * 64, packages=packages)


def engine(*replies: str) -> ScriptedEngine:
    return ScriptedEngine(replies, window_tokens=32_000)


async def ask(
    engine: ScriptedEngine, trace: Path, document: Path, comes_to: Callable[[Event], bool] = lambda _: True
) -> Answer:
    request = Request(
        "How long is the notice period?",
        (Document(document.name, document.read_text(), str(document)),),
        Limits(max_tokens=1_000_000),
    )
    with TraceWriter(trace) as writer:
        return await runtime(engine).ask(request, Cutting(writer, comes_to))


async def go_on(engine: Engine, trace: Path, *paths: str) -> Answer:
    read = read_trace(trace)
    again = read_again(read, paths)
    with TraceWriter(trace, behind=Written(len(read.events), read.whole_bytes, read.times_s[-1])) as writer:
        return await runtime(engine).ask(again.request, writer, past=again.past())


@pytest.fixture
def lease(tmp_path: Path) -> Path:
    path = tmp_path / "lease.txt"
    path.write_text(LEASE)
    return path


@pytest.fixture
async def cut(nsjail: None, tmp_path: Path, lease: Path) -> Path:
    """The trace of a run that was cut off while its second cell ran."""
    trace = tmp_path / "run.jsonl"

    def comes_to(event: Event) -> bool:
        return not (isinstance(event, TurnTaken) and event.number == 2)

    with pytest.raises(Cut):
        await ask(engine(LOOK, "ninety", AGAIN), trace, lease, comes_to)
    return trace


async def test_variables_of_finished_cells_are_back_and_their_sub_calls_are_not_asked_again(cut: Path) -> None:
    rest = engine('FINAL("ninety days")')
    answer = await go_on(rest, cut)
    assert (answer.value, answer.confirmed, answer.turns, answer.subcalls) == ("ninety days", True, 3, 1)
    assert len(rest.completions) == 1
    taken = [event for event in read_trace(cut).events if isinstance(event, TurnTaken)]
    assert taken[1].turn.result is not None
    assert taken[1].turn.result.stdout == "ninety 1 days\n"


async def test_a_run_that_waits_for_a_word_has_paid_nothing_of_what_it_asks_and_goes_on(
    nsjail: None, tmp_path: Path, lease: Path
) -> None:
    trace = tmp_path / "run.jsonl"
    ask_all = "```repl\nprint(llm_query_batched([f'{n}?' for n in range(4)]))\n```"
    request = Request("How long?", (Document(lease.name, lease.read_text(), str(lease)),), Limits(max_tokens=1_000_000))
    asked = engine(ask_all)
    with TraceWriter(trace) as writer, pytest.raises(FanOutHeld, match="the next step asks 4 sub-calls"):
        await runtime(asked).ask(request, writer, ask_before=3)
    assert len(asked.completions) == 1
    check_unfinished(read_trace(trace))
    rest = engine("ninety", "ninety", "ninety", "ninety", 'FINAL("ninety")')
    answer = await go_on(rest, trace)
    assert (answer.value, answer.confirmed, answer.turns, answer.subcalls) == ("ninety", True, 2, 4)


async def test_a_document_that_has_changed_is_refused_and_one_that_has_moved_can_be_named(
    cut: Path, lease: Path
) -> None:
    moved = lease.rename(lease.with_name("moved.txt"))
    with pytest.raises(DocumentError, match=r"lease\.txt is gone; the run read its document lease\.txt there"):
        read_again(read_trace(cut))
    lease.write_text(LEASE.replace("ninety", "sixty"))
    with pytest.raises(
        DocumentError, match=r"lease\.txt has changed since the run began: its sha256 was [0-9a-f]{16},"
    ):
        read_again(read_trace(cut))
    assert (await go_on(engine('FINAL("ninety days")'), cut, str(moved))).value == "ninety days"


async def test_a_run_whose_messages_come_out_otherwise_does_not_go_on(cut: Path) -> None:
    lines = cut.read_text().splitlines()
    changed = [line.replace("5 turns left", "7 turns left").replace("11 turns left", "9 turns left") for line in lines]
    assert changed != lines
    cut.write_text("\n".join(changed) + "\n")
    with pytest.raises(TraceError, match="cannot go on from its trace: its TurnTaken came out otherwise"):
        await go_on(engine('FINAL("ninety days")'), cut)


async def test_a_run_that_came_to_its_end_needs_no_going_on(nsjail: None, tmp_path: Path, lease: Path) -> None:
    trace = tmp_path / "run.jsonl"
    await ask(engine(LOOK, "ninety", 'FINAL("ninety days")'), trace, lease)
    with pytest.raises(ConfigError, match=r"came to its end \(final\)"):
        check_unfinished(read_trace(trace))


async def test_a_trace_replays_to_the_same_events_without_an_engine(nsjail: None, tmp_path: Path, lease: Path) -> None:
    trace = tmp_path / "run.jsonl"
    await ask(engine(LOOK, "ninety", AGAIN, 'FINAL("ninety days")'), trace, lease)
    assert await replay(read_again(read_trace(trace))) == []


async def test_a_trace_that_was_cut_replays_as_far_as_it_goes(cut: Path) -> None:
    assert await replay(read_again(read_trace(cut))) == []


async def test_what_comes_out_otherwise_in_a_replay_is_named(nsjail: None, tmp_path: Path, lease: Path) -> None:
    trace = tmp_path / "run.jsonl"
    clock = "```repl\nimport time\nprint(time.time_ns())\n```"
    await ask(engine(clock, LOOK, "ninety", 'FINAL("ninety days")'), trace, lease)
    found = await replay(read_again(read_trace(trace)))
    assert found[0].startswith("turn_taken (node 0 number 1).turn.result.stdout: was '")
    assert len(found) == 1  # the rest was said of what was printed then


LINES = [f"line {number}: {'late' if number % 3 == 0 else 'on time'}" for number in range(5_000)]
SORT = (
    "```repl\n"
    "labels = llm_classify(context.splitlines(), ['late', 'on time'])\n"
    "late = sum(label == 'late' for label in labels)\n"
    "left = LIMITS['calls']\n"
    "print(late, left)\n"
    "```"
)
TELL = "```repl\nprint(late, left, LIMITS['calls'])\n```"


def sorting(completion: Completion) -> str:
    """Play root and sub-model: what is said depends on the request alone."""
    last = completion.messages[-1].content
    if completion.choices:
        return "late" if last.endswith("late") else "on time"
    worked = sum(message.role is Role.ASSISTANT for message in load_profile("small").worked)
    turn = sum(message.role is Role.ASSISTANT for message in completion.messages) - worked
    return (SORT, TELL, "FINAL_VAR(late)")[turn]


async def sort_all(
    trace: Path, document: Path, comes_to: Callable[[Event], bool] = lambda _: True
) -> tuple[Answer, AnsweringEngine]:
    document.write_text("\n".join(LINES))
    limits = Limits(max_tokens=100_000_000, max_subcalls=20_000, wall_s=3_000.0, cell_s=600.0)
    request = Request("How many are late?", (Document("log", document.read_text(), str(document)),), limits)
    asked = AnsweringEngine(sorting, window_tokens=32_000)
    with TraceWriter(trace) as writer:
        return await runtime(asked).ask(request, Cutting(writer, comes_to)), asked


async def test_a_typed_call_that_was_cut_off_asks_again_for_no_item_that_has_its_reply(
    nsjail: None, tmp_path: Path
) -> None:
    whole, asked = await sort_all(tmp_path / "whole.jsonl", tmp_path / "log")
    for most in (100, 2_100, 4_000):  # while it learns what the model prefers, and in the second frame
        replied = 0

        def comes_to(event: Event, most: int = most) -> bool:
            nonlocal replied
            if isinstance(event, ItemsReplied):
                if replied + len(event.replies) > most:
                    return False
                replied += len(event.replies)
            return True

        trace = tmp_path / f"{most}.jsonl"
        with pytest.raises(Cut):
            await sort_all(trace, tmp_path / "log", comes_to)
        assert replied > most - 64
        rest = AnsweringEngine(sorting, window_tokens=32_000)
        answer = await go_on(rest, trace)
        assert rest.count == asked.count - replied - 1  # and the first turn
        assert replace(answer, wall_s=0.0) == replace(whole, wall_s=0.0)
        paid = [event for event in read_trace(trace).events if isinstance(event, PageDone)]
        assert [len(event.page.items) for event in paid] == [2_048, 2_048, 905]  # with the header of the document


async def test_what_a_finished_cell_has_learned_for_a_later_one_is_learned_again(nsjail: None, tmp_path: Path) -> None:
    again = SORT.replace("context.splitlines()", "context.splitlines()[:600]")
    first, second = again.replace("[:600]", "[:700]"), again

    def turns(completion: Completion) -> str:
        worked = sum(message.role is Role.ASSISTANT for message in load_profile("small").worked)
        turn = sum(message.role is Role.ASSISTANT for message in completion.messages) - worked
        return sorting(completion) if completion.choices else (first, second, "FINAL_VAR(late)")[turn]

    document = tmp_path / "log"
    document.write_text("\n".join(LINES[:1_000]))
    limits = Limits(max_tokens=100_000_000, max_subcalls=20_000, wall_s=3_000.0, cell_s=600.0)
    request = Request("How many are late?", (Document("log", document.read_text(), str(document)),), limits)
    answers = []
    for name, last in (("whole", 99), ("cut", 1)):
        trace = tmp_path / name
        with TraceWriter(trace) as writer:
            cutting = Cutting(writer, lambda event: not (isinstance(event, TurnStarted) and event.number > last))  # noqa: B023
            asked = AnsweringEngine(turns, window_tokens=32_000)
            with nullcontext() if last > 1 else pytest.raises(Cut):
                answers.append(await runtime(asked).ask(request, cutting))
    rest = AnsweringEngine(turns, window_tokens=32_000)
    resumed = await go_on(rest, tmp_path / "cut")
    assert rest.count == 2  # turns: the second cell's items are among the first one's
    assert replace(resumed, wall_s=0.0) == replace(answers[0], wall_s=0.0)


@pytest.mark.parametrize("is_whole", [False, True])
async def test_a_cell_that_made_typed_calls_has_its_values_and_its_limits_again(
    nsjail: None, tmp_path: Path, *, is_whole: bool
) -> None:
    trace = tmp_path / "run.jsonl"
    if is_whole:
        await sort_all(trace, tmp_path / "log")
    else:
        with pytest.raises(Cut):
            await sort_all(
                trace, tmp_path / "log", lambda event: not (isinstance(event, TurnTaken) and event.number == 2)
            )
    assert await replay(read_again(read_trace(trace))) == []
    if not is_whole:
        rest = AnsweringEngine(sorting, window_tokens=32_000)
        answer = await go_on(rest, trace)
        assert (answer.value, rest.count) == (len(LINES[::3]), 1)
        (told,) = [one for one in read_trace(trace).events if isinstance(one, TurnTaken) and one.number == 2]
        assert told.turn.result is not None
        late, left, left_now = map(int, told.turn.result.stdout.split())
        assert (late, left) == (len(LINES[::3]), 20_000)
        assert left_now == 20_000 - answer.subcalls


async def test_a_trace_says_what_code_could_import_and_the_run_is_gone_through_with_the_same(
    nsjail: None, tmp_path: Path, lease: Path
) -> None:
    pytest.importorskip("numpy")
    numpy = find_packages(["numpy"])
    asked = engine('```repl\nimport numpy\nprint("ninety", numpy.arange(3).sum())\n```', 'FINAL("ninety")')
    request = Request("How long is the notice period?", (Document("lease", LEASE, str(lease)),), Limits())
    with TraceWriter(tmp_path / "run.jsonl") as writer:
        answer = await runtime(asked, numpy).ask(request, writer)
    assert answer.value == "ninety"
    assert "numpy: can be imported" in asked.completions[0].messages[0].content
    again = read_again(read_trace(tmp_path / "run.jsonl"))
    assert again.started.jail_packages == numpy.named
    assert packages_of(again.started) == numpy
    assert await replay(again) == []
    other = replace(again, started=replace(again.started, jail_packages=("numpy==0.1",)))
    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    plan = Plan(card, profile_of(card, numpy), 32_000, tmp_path, "0" * 64, tmp_path, packages=numpy)
    check_same(again, plan)
    with pytest.raises(TraceError, match=r"the jail packages of .* are not those of the run: it had .*numpy==0\.1"):
        check_same(other, plan)
    gone = replace(again, started=replace(again.started, jail_packages=("never-installed==1.0",)))
    with pytest.raises(ConfigError, match="never-installed is not installed"):
        await replay(gone)
