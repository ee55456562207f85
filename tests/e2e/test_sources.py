"""What an answer names as its source, from a cell in a jail to the citations of the answer."""

from __future__ import annotations

from functools import partial

import pytest

from rlm_local.controller import Ports, run_node
from rlm_local.documents import cite, join
from rlm_local.jail import JailSession
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.testing import KeptEvents, ScriptedEngine
from rlm_local.types import Answer, Document, Request, Sampling

pytestmark = pytest.mark.jail
QUESTION = "What is the fee?"
LIMITS = Limits()
RULES = "The archive closes at noon. The fee for a room is 30 euros. The fee for a table is 12 euros."
CORPUS = join(
    [Document("letter.txt", "Thank you for the 30 euros."), Document("rules.txt", RULES), Document("empty.txt", "")]
)
LOOK = "found = search('fee for a room', chars=40)"


async def ask(*cells: str) -> tuple[Answer, ScriptedEngine]:
    engine = ScriptedEngine([f"```repl\n{code}\n```" for code in cells], window_tokens=1_000_000)
    async with await JailSession.start(CORPUS, LIMITS, notes={"question": QUESTION}) as repl:
        answer = await run_node(
            Request(QUESTION, CORPUS.documents, LIMITS),
            CORPUS,
            Ports(engine, repl, KeptEvents()),
            load_profile("large"),
            sampling=Sampling(),
            cite=partial(cite, corpus=CORPUS, question=QUESTION),
        )
    return answer, engine


@pytest.mark.parametrize("source", ["found[0]", "'the fee for a room is 30 euros'.capitalize()"])
async def test_the_passage_that_it_names_is_its_first_citation(nsjail: None, source: str) -> None:
    answer, _ = await ask(LOOK, f"FINAL('30 euros', sources=[{source}])")
    assert (answer.confirmed, answer.unfound) == (True, ())
    assert answer.citations[0].document == "rules.txt"
    assert "The fee for a room is 30 euros." in answer.citations[0].quote


async def test_documents_may_be_named_whole_and_an_empty_one_says_nothing(nsjail: None) -> None:
    answer, _ = await ask(LOOK, "FINAL('30 euros', sources=documents)")
    assert (answer.confirmed, answer.unfound) == (True, ())
    assert [citation.document for citation in answer.citations[:2]] == ["letter.txt", "rules.txt"]


async def test_an_invented_quote_is_sent_back_and_the_mended_answer_is_confirmed(nsjail: None) -> None:
    answer, engine = await ask(
        LOOK,
        "FINAL('30 euros', sources=['The fee for a room is always 30 euros.'])",
        "FINAL(30, sources=found)",
    )
    assert (answer.value, answer.confirmed, answer.unfound) == (30, True, ())
    assert "no document says 'The fee for a room is always 30 euros.'" in engine.completions[2].messages[-1].content


async def test_an_answer_that_keeps_it_is_unconfirmed_and_tells_it(nsjail: None) -> None:
    invented = "FINAL('30 euros', sources=['The fee is always {} euros.', found[0]])"
    answer, _ = await ask(LOOK, invented.format(30), invented.format(31))
    assert (answer.value, answer.confirmed) == ("30 euros", False)
    assert answer.unfound == ("The fee is always 31 euros.",)
    assert answer.citations[0].document == "rules.txt"
