"""The arms, each with an engine that says what a test wrote down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.arms.bm25 import PIECE_CHARS, Index, pieces
from bench.arms.codeact import CodeAct, Retriever
from bench.arms.plain import CUT, PlainArm, Reading
from bench.arms.rlm import Labelled, without_subcalls
from bench.arms.summary import SummaryAgent
from bench.rows import Outcome, run_task
from bench.tasks.scoring import string_match_all
from bench.tasks.task import Task
from rlm_local.events import PageDone
from rlm_local.limits import Limits
from rlm_local.ports import CallCancelled
from rlm_local.prompts import load_profile
from rlm_local.testing import AnsweringEngine, ScriptedEngine
from rlm_local.types import CallForm, CallKind, Completion, Document, Page, Reply, Sampling, StopReason, Usage

LIMITS = Limits(turn_tokens=100, subcall_tokens=50, answer_tokens=50)
FILLER = "The grass is green and the sky is blue. " * 100  # 4,000 characters, 1,000 tokens of the scripted tokenizer
NEEDLE = "The harbour's number is 1234567. "
TASK = Task(
    family="niah",
    index=0,
    kind="needle",
    documents=(Document("a.txt", FILLER + NEEDLE + FILLER),),
    question="What is the harbour's number?",
    gold="1234567",
    scorer=string_match_all,
    answer_schema={"type": "integer"},
)


def plain(reading: Reading, engine: ScriptedEngine, **settings: object) -> PlainArm:
    return PlainArm(reading, engine, LIMITS, Sampling(), **settings)


def asked(engine: ScriptedEngine, at: int = 0) -> str:
    return engine.completions[at].messages[-1].content


async def test_direct_asks_once_with_the_whole_text_and_the_question() -> None:
    engine = ScriptedEngine(["1234567"], window_tokens=4_096)
    row = await run_task(TASK, plain(Reading.WHOLE, engine))
    assert TASK.documents[0].text in asked(engine)
    assert TASK.question in asked(engine)
    assert (row.outcome, row.turns, row.confirmed) == (Outcome.RIGHT, 1, False)


async def test_direct_uses_the_familys_own_prompt() -> None:
    engine = ScriptedEngine(["1234567"], window_tokens=4_096)
    await run_task(replace(TASK, prompt="Read $text. Now: $5?"), plain(Reading.WHOLE, engine))
    assert asked(engine) == f"Read {TASK.documents[0].text}. Now: $5?"


async def test_direct_refuses_a_task_above_the_window_with_its_numbers() -> None:
    engine = ScriptedEngine(["never said"], window_tokens=1_024)
    row = await run_task(TASK, plain(Reading.WHOLE, engine))
    assert (row.outcome, row.score) == (Outcome.REFUSED, 0.0)
    assert "tokens, and 100 are for the answer, but the window holds 1024" in row.detail
    assert engine.completions == []


async def test_direct_cut_leaves_the_middle_out_and_says_how_much_was_read() -> None:
    engine = ScriptedEngine(["nothing"], window_tokens=1_024)
    row = await run_task(TASK, plain(Reading.ENDS, engine))
    text = TASK.documents[0].text
    head, tail = asked(engine).split(CUT)
    assert text.startswith(head)
    assert tail.startswith(text[-200:][:1]) or tail.split("\n\nQuestion")[0] in text
    assert NEEDLE not in asked(engine)
    assert 0.9 * 1_024 < await engine.count_tokens(asked(engine)) + 100 + 64 <= 1_024
    assert row.detail.startswith("the middle was cut out: ")
    assert f"of {len(text)} characters were read" in row.detail


async def test_direct_cut_within_the_window_is_direct() -> None:
    engine = ScriptedEngine(["1234567"], window_tokens=4_096)
    row = await run_task(TASK, plain(Reading.ENDS, engine))
    assert TASK.documents[0].text in asked(engine)
    assert row.detail == "the whole text; nothing was cut"


async def test_closed_sees_no_document() -> None:
    engine = ScriptedEngine(["1234567"])
    await run_task(TASK, plain(Reading.NOTHING, engine))
    assert asked(engine) == TASK.question


async def test_rag_sees_the_passage_that_has_the_words() -> None:
    engine = ScriptedEngine(["1234567"], window_tokens=1_024)
    row = await run_task(TASK, plain(Reading.FOUND, engine))
    assert NEEDLE.strip() in asked(engine)
    assert "passages that BM25 found" in row.detail
    assert await engine.count_tokens(asked(engine)) + 100 + 64 <= 1_024


async def test_an_answer_held_to_a_schema_is_its_value() -> None:
    engine = ScriptedEngine(["1234567"], window_tokens=4_096)
    answer = await plain(Reading.WHOLE, engine, typed=True).answer(TASK)
    assert answer.value == 1234567
    assert json.loads(engine.completions[0].json_schema) == {"type": "integer"}


async def test_every_request_of_a_task_is_kept(tmp_path: Path) -> None:
    engine = ScriptedEngine(["1234567"], window_tokens=4_096)
    await run_task(TASK, plain(Reading.WHOLE, engine, traces=tmp_path))
    (line,) = (tmp_path / "task-001.calls.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["reply"] == "1234567"


async def test_the_summary_agent_reads_all_parts_and_answers_from_its_notes() -> None:
    seen: list[str] = []

    def reply(completion: Completion) -> str:
        text = completion.messages[-1].content
        if "The next part:\n" in text:
            seen.append(text.split("The next part:\n")[1].rsplit("\n\nWrite the new notes", 1)[0])
            return "the number is 1234567" if NEEDLE in text or "1234567" in text else "nothing yet"
        return "1234567" if "the number is 1234567" in text else "unknown"

    arm = SummaryAgent(AnsweringEngine(reply, window_tokens=1_024), LIMITS, Sampling())
    row = await run_task(TASK, arm)
    assert "".join(seen) == TASK.documents[0].text
    assert (row.outcome, row.turns) == (Outcome.RIGHT, len(seen) + 1)
    assert row.detail == f"notes of 100.0 % of {len(TASK.documents[0].text)} characters"


async def test_the_summary_agent_answers_from_what_it_has_when_its_tokens_are_spent() -> None:
    engine = AnsweringEngine(lambda completion: "no number", window_tokens=1_024)
    arm = SummaryAgent(engine, replace(LIMITS, max_tokens=2_000), Sampling())
    answer = await arm.answer(TASK)
    assert answer.stop is StopReason.TOKEN_LIMIT
    assert answer.value == "no number"
    assert answer.usage.total_tokens <= 2_000
    assert not answer.reason.startswith("notes of 100")


async def test_the_summary_agent_answers_before_its_time_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0

    def reply(completion: Completion) -> str:
        nonlocal now_s
        now_s += 100.0
        return "a note" if "The next part:\n" in completion.messages[-1].content else "1234567"

    monkeypatch.setattr("bench.arms.spending.time", SimpleNamespace(monotonic=lambda: now_s))
    arm = SummaryAgent(AnsweringEngine(reply, window_tokens=1_024), replace(LIMITS, wall_s=350), Sampling())
    answer = await arm.answer(TASK)
    assert (answer.value, answer.stop, answer.turns) == ("1234567", StopReason.TIME_LIMIT, 3)
    assert not answer.reason.startswith("notes of 100")


class EndlessEngine(ScriptedEngine):
    """Never ends a reply, and says what was spent when it is cancelled."""

    async def complete(self, completion: Completion) -> Reply:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise CallCancelled(Usage(700, 0, 3)) from None
        raise AssertionError("nobody sets the event")


async def test_what_a_reply_has_cost_that_came_too_late_is_counted() -> None:
    arm = PlainArm(Reading.NOTHING, EndlessEngine([]), replace(LIMITS, wall_s=0.2), Sampling())
    answer = await arm.answer(TASK)
    assert (answer.value, answer.stop, answer.usage) == (None, StopReason.TIME_LIMIT, Usage(700, 0, 3))


# --- CodeAct ------------------------------------------------------------------------------------------------


@pytest.mark.jail
async def test_codeact_reaches_the_text_by_bm25_alone(nsjail: None) -> None:
    code = "print(len(context.strip()), bm25('the number of the harbour', k=1)[0])"
    engine = ScriptedEngine([f"```python\n{code}\n```\nOutput: 99", "ANSWER: 1234567"], window_tokens=2_048)
    row = await run_task(TASK, CodeAct(engine, LIMITS, Sampling()))
    shown = engine.completions[1].messages
    assert "too many to show" in shown[1].content
    assert "Output: 99" not in shown[2].content  # what a model makes up behind its block is not handed back
    assert NEEDLE.strip() in shown[3].content
    assert (row.outcome, row.turns, row.answer) == (Outcome.RIGHT, 2, "1234567")
    assert row.detail == "the text by bm25 only; 1 questions to bm25"


@pytest.mark.jail
async def test_codeact_has_the_text_in_its_prompt_where_it_fits_and_no_model_in_its_jail(nsjail: None) -> None:
    engine = ScriptedEngine(["```python\nprint(llm_query('who?'))\n```", "ANSWER: 1234567"], window_tokens=8_192)
    await run_task(TASK, CodeAct(engine, LIMITS, Sampling()))
    assert TASK.documents[0].text in engine.completions[0].messages[1].content
    assert "there is no language model here" in engine.completions[1].messages[3].content


@pytest.mark.jail
async def test_codeact_ends_at_its_last_turn(nsjail: None) -> None:
    engine = ScriptedEngine(["```python\nx = 1\n```"] * 3, window_tokens=8_192)
    answer = await CodeAct(engine, replace(LIMITS, max_turns=3), Sampling()).answer(TASK)
    assert (answer.value, answer.stop, answer.turns) == (None, StopReason.TURN_LIMIT, 3)
    assert "This is your last turn" in engine.completions[2].messages[-1].content


async def test_the_retriever_refuses_what_is_no_question_to_it() -> None:
    retriever = Retriever(Index(list(pieces(TASK.documents))))
    refused, found = await retriever(["who?", "2\nharbour number"], CallForm())
    assert "there is no language model here" in refused.refused
    assert NEEDLE.strip() in found.answer


# --- BM25 ---------------------------------------------------------------------------------------------------


def test_pieces_joined_are_the_documents() -> None:
    documents = (Document("a", FILLER + NEEDLE), Document("b", "x" * 2_500), Document("c", ""))
    made = list(pieces(documents))
    for document in documents:
        assert "".join(piece.text for piece in made if piece.document == document.name) == document.text
    assert max(len(piece.text) for piece in made) <= PIECE_CHARS
    assert all(documents["abc".index(one.document)].text[one.start :].startswith(one.text) for one in made)


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    index = Index(list(pieces([Document("d", f"grass grass grass {n}") for n in range(9)] + [Document("e", "teapot")])))
    assert [piece.text for piece in index.best("grass teapot", 1)] == ["teapot"]
    assert index.best("nothing of this", 5) == []


# --- RLM ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small", "large"])
def test_without_sub_calls_no_word_of_them_is_said(name: str) -> None:
    told = without_subcalls(load_profile(name))
    texts = [told.system, told.question, *(message.content for message in told.worked)]
    assert not any("llm_" in text or "rlm_query" in text or "language model" in text for text in texts)
    assert told.sha256 != load_profile(name).sha256
    assert "$question" in told.question
    assert "$turns" in told.question
    assert [message.role for message in told.worked] == ["user", "assistant"] * (len(told.worked) // 2)


def page(items: Sequence[str], labels: Sequence[str]) -> PageDone:
    return PageDone("root", 1, 1, Page(CallKind.CLASSIFY, {}, tuple(items), tuple(labels), (), Usage()))


def test_labels_are_counted_by_the_last_that_an_item_was_given() -> None:
    labelled = Labelled({"Who was he ?": "human being", "Where ?": "location"})
    labelled.hear(page(["Who was he ?", "no item of ours"], ["entity", "entity"]))
    labelled.hear(page(["Date: Jan 01, 2024 || User: 12345 || Instance: Who was he ?"], ["human being"]))
    assert (labelled.right, labelled.of) == (1, 1)
