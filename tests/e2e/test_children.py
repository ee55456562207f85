"""Questions to children: real jails, a scripted model that answers by what it is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.events import Event, NodeEnded, NodeStarted, PageDone, SubCallDone, TurnStarted
from rlm_local.limits import Limits
from rlm_local.ports import Recorder
from rlm_local.prompts import load_profile
from rlm_local.resume import read_again, replay
from rlm_local.runtime import Runtime
from rlm_local.testing import AnsweringEngine, KeptEvents
from rlm_local.trace import TraceWriter, Written, read_trace, run_lines
from rlm_local.types import Answer, Completion, Document, Request, Role, Span, StopReason

pytestmark = pytest.mark.jail

LEASES = tuple(Document(f"lease-{n}.txt", f"Lease {n}.\nThe rent is {n}00 euros.\n") for n in (1, 2, 3))
ASK_ALL = "rents = rlm_query_batched(['What is the rent?'] * 3, [[d] for d in documents])\nprint(rents)"  # a list each
READ = "print(search('rent is', limit=1)[0].text)"


def scripted(root: str, child: str = READ) -> Callable[[Completion], str]:
    """Return a model that writes one cell as root, another as child, and then answers with what was printed."""

    def answer(completion: Completion) -> str:
        worked = load_profile("small").worked
        own = completion.messages[len(worked) + 1 :]
        if completion.grammar is None:  # a sub-call
            return "a plain answer"
        if len(own) == 1:
            return f"```repl\n{root if 'rents' in own[0].content else child}\n```"
        said = own[-1].content.removeprefix("Output:\n").split("\n\n")[0].strip().splitlines()[-1]
        return f"FINAL({said!r})"

    return answer


async def ask(
    engine: AnsweringEngine,
    recorder: Recorder,
    documents: tuple[Document, ...] = LEASES,
    **limits: float,
) -> Answer:
    bounds = Limits(**{"max_tokens": 1_000_000, "max_depth": 2, "wall_s": 300.0, **limits})  # type: ignore[arg-type]
    return await runtime(engine).ask(Request("What are the rents?", documents, bounds), recorder)


def runtime(engine: AnsweringEngine) -> Runtime:
    card = replace(find_card(DEFAULT_MODEL, load_cards()), profile="small")
    return Runtime(card, load_profile("small"), engine, "0" * 64)


def of(events: list[Event], kind: type) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


async def test_children_answer_over_their_own_documents_and_the_tree_pays_once(nsjail: None) -> None:
    recorder, engine = KeptEvents(), AnsweringEngine(scripted(ASK_ALL), tokens_each=10, window_tokens=32_000)
    answer = await ask(engine, recorder)
    assert "The rent is 100 euros." in str(answer.value)
    assert "The rent is 300 euros." in str(answer.value)
    started = of(recorder.events, NodeStarted)
    assert [(one.node, one.parent, one.spans) for one in started] == [  # type: ignore[attr-defined]
        (f"0.{n + 1}", "0", (Span(n, 0, len(LEASES[n].text)),)) for n in range(3)
    ]
    assert answer.usage.completion_tokens == 10 * len(engine.completions) == 10 * (2 + 3 * 2)
    assert answer.subcalls == 3
    assert {completion.depth for completion in engine.completions} == {0, 1}
    ended = of(recorder.events, NodeEnded)
    assert all(one.answer.confirmed for one in ended)  # type: ignore[attr-defined]


async def test_at_the_last_level_a_question_is_a_plain_sub_call(nsjail: None) -> None:
    recorder, engine = KeptEvents(), AnsweringEngine(scripted(ASK_ALL), tokens_each=10, window_tokens=32_000)
    answer = await ask(engine, recorder, max_depth=1)
    assert "a plain answer" in str(answer.value)
    assert of(recorder.events, NodeStarted) == []
    prompts = [event.subcall.prompt for event in of(recorder.events, SubCallDone)]  # type: ignore[attr-defined]
    assert prompts[0] == f"{LEASES[0].text}\n\nQuestion: What is the rent?"


async def test_a_childs_share_is_of_what_its_parent_has_and_no_child_raises_it(nsjail: None) -> None:
    greedy = "rents = []\nfor n in range(9):\n    rents.append(llm_query(f'{n}?'))\nprint('rents', len(rents))"
    recorder, engine = KeptEvents(), AnsweringEngine(scripted(ASK_ALL, greedy), tokens_each=10, window_tokens=32_000)
    answer = await ask(engine, recorder, max_subcalls=12)
    shares = [one.limits.max_subcalls for one in of(recorder.events, NodeStarted)]  # type: ignore[attr-defined]
    assert shares == [4, 4, 4]  # itself and three calls
    assert answer.subcalls == 12
    refused = [one.subcall.refused for one in of(recorder.events, SubCallDone) if one.node != "0"]  # type: ignore[attr-defined]
    assert sum(bool(why) for why in refused) >= 3


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("print(rlm_query('rents?', 5))", "context must be a text, a document, a passage of search(), or a list"),
        ("print(rlm_query('rents?', ''))", "context is empty; leave it out to ask about all documents"),
        ("print(rlm_query_batched('rents?'))", "rlm_query_batched() takes a list of questions, not str"),
        ("print(rlm_query_batched(['a', 'b'], [documents[0]]))", "1 contexts for 2 questions; give one for each"),
        ("print(rlm_query_batched(['?'] * 65))", "65 questions in one call, but at most 64 are allowed"),
        ("print(rlm_query_batched(['?'] * 64))", "a child needs 2560 tokens and more, but for each of 64 only"),
    ],
)
async def test_what_cannot_be_asked_is_told_with_numbers_or_a_repair(nsjail: None, code: str, printed: str) -> None:
    engine = AnsweringEngine(scripted(f"print('rents')\n{code}"), tokens_each=10, window_tokens=32_000)
    await ask(engine, KeptEvents(), max_tokens=90_000)
    assert printed in engine.completions[1].messages[-1].content


async def test_batches_within_a_child_are_its_own_and_paid_by_the_tree(nsjail: None) -> None:
    child = (
        "made = llm_map(documents[0].text.splitlines(), 'shout')\n"
        "said = llm_query_batched(['a', 'b'])\n"
        "asked = rlm_query_batched(['c', 'd'], ['1', '2'])\n"  # at the last level: plain calls
        "print('rents', len(made), len(said), len(asked))"
    )
    recorder, engine = KeptEvents(), AnsweringEngine(scripted(ASK_ALL, child), tokens_each=10, window_tokens=32_000)
    answer = await ask(engine, recorder, max_subcalls=60)
    assert str(answer.value).count("rents 2 2 2") == 3
    pages, calls = of(recorder.events, PageDone), of(recorder.events, SubCallDone)
    assert sorted(one.node for one in pages) == ["0.1", "0.2", "0.3"]  # type: ignore[attr-defined]
    assert sum(one.node != "0" for one in calls) == 3 * 4  # type: ignore[attr-defined]
    assert answer.subcalls == 3 * (1 + 2 + 2 + 2)


async def test_a_text_of_a_document_goes_as_its_span_and_another_as_text(nsjail: None) -> None:
    code = "rents = [rlm_query('?', documents[1].text[9:30]), rlm_query('?', 'The rent is 7 euros.')]\nprint(rents)"
    recorder, engine = (
        KeptEvents(),
        AnsweringEngine(scripted(code, "print(context[-22:])"), tokens_each=10, window_tokens=32_000),
    )
    await ask(engine, recorder)
    first, second = of(recorder.events, NodeStarted)
    assert first.spans == (Span(1, 9, 30),)  # type: ignore[attr-defined]
    assert (second.spans, second.documents[0].name) == ((), "text")  # type: ignore[attr-defined]


async def test_children_of_one_batch_run_side_by_side(nsjail: None) -> None:
    here = asyncio.Barrier(3)

    class Meeting(AnsweringEngine):
        async def complete(self, completion: Completion):  # type: ignore[no-untyped-def]
            if completion.depth == 1 and completion.messages[-1].role is Role.USER and len(self.completions) < 4:
                async with asyncio.timeout(60):
                    self.completions.append(completion)
                    await here.wait()  # passes only when all three children are at it
                    self.completions.pop()
            return await super().complete(completion)

    answer = await ask(Meeting(scripted(ASK_ALL), window_tokens=32_000), KeptEvents())
    assert "300 euros" in str(answer.value)


async def test_cancelling_the_root_ends_children_their_requests_and_their_jails(nsjail: None) -> None:
    class Hanging(AnsweringEngine):
        cancelled = 0

        async def complete(self, completion: Completion):  # type: ignore[no-untyped-def]
            if completion.depth == 0:
                return await super().complete(completion)
            asked.release()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    asked, recorder = asyncio.Semaphore(0), KeptEvents()
    engine = Hanging(scripted(ASK_ALL), window_tokens=32_000)
    run = asyncio.create_task(ask(engine, recorder))
    for _ in range(3):
        await asked.acquire()
    began = time.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    took_s = time.monotonic() - began
    assert engine.cancelled == 3
    assert recorder.events[-1].answer.stop is StopReason.CANCELLED  # type: ignore[union-attr]
    assert not any(b"nsjail" in line for line in commands_of_children())
    assert took_s < 10  # 1 s on a quiet machine; bench/results has the figure


def commands_of_children() -> list[bytes]:
    pids = [pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]
    return [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]


class Cut(Exception):
    """The run ends here, as its process might."""


async def test_a_tree_goes_on_from_its_trace_and_children_that_ended_are_not_asked_again(
    nsjail: None, tmp_path: Path
) -> None:
    documents = []
    for lease in LEASES:
        path = tmp_path / lease.name
        path.write_text(lease.text)
        documents.append(Document(lease.name, lease.text, str(path)))
    whole = await ask(
        AnsweringEngine(scripted(ASK_ALL), tokens_each=10, window_tokens=32_000), KeptEvents(), tuple(documents)
    )
    trace, engine = tmp_path / "run.jsonl", AnsweringEngine(scripted(ASK_ALL), tokens_each=10, window_tokens=32_000)

    class Cutting:
        def write(self, event: Event) -> None:
            if isinstance(event, NodeEnded) and event.node == "0.3":
                raise Cut
            writer.write(event)

    with TraceWriter(trace) as writer, pytest.raises(Cut):
        await ask(engine, Cutting(), tuple(documents))
    had = len(engine.completions)
    read = read_trace(trace)
    again = read_again(read)
    rest = AnsweringEngine(scripted(ASK_ALL), tokens_each=10, window_tokens=32_000)
    with TraceWriter(trace, behind=Written(len(read.events), read.whole_bytes, read.times_s[-1])) as writer:
        answer = await runtime(rest).ask(again.request, writer, past=again.past())
    assert replace(answer, wall_s=0.0) == replace(whole, wall_s=0.0)
    assert had + len(rest.completions) == 2 + 3 * 2
    events = read_trace(trace).events
    assert len([event for event in events if isinstance(event, TurnStarted)]) == 2 + 3 * 2
    assert await replay(read_again(read_trace(trace))) == []
    shown = run_lines(events)
    assert [line for line in shown if "┆ question:" in line] == [
        f"  0.{n} ┆ question: What is the rent?" for n in (1, 2, 3)
    ]
    first = next(n for n, line in enumerate(shown) if line.startswith("  0.1 "))
    last = max(n for n, line in enumerate(shown) if line.startswith("  0.1 "))
    assert all(line.startswith("  0.1 ") for line in shown[first : last + 1])  # a child is drawn in one piece
