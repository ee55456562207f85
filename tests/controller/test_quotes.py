"""A question for quotes is answered with what the documents say, word for word."""

from __future__ import annotations

import pytest

from rlm_local.controller.quotes import asks_for_quotes, unquoted
from rlm_local.testing import ScriptedEngine, ScriptedRepl
from rlm_local.types import Corpus, Document, JsonValue
from tests.controller.asking import LOOK, LOOK_AGAIN, SEEN, ask

TEXT = "The tenant’s dog\n  may be kept in the house. The fee is 30 euros, due on the third day of each month."
CORPUS = Corpus((Document("lease.txt", TEXT),), TEXT, (0,))


@pytest.mark.parametrize(
    "question",
    [
        "Quote each passage that belongs to this kind of clause.",
        "What does it say of pets? Please quote it.",
        "Give the clause on pets, verbatim.",
        "Copy the clause word for word.",
        "What are the exact words of the notice?",
    ],
)
def test_these_ask_for_quotes(question: str) -> None:
    assert asks_for_quotes(question)


@pytest.mark.parametrize(
    "question",
    [
        "Which quote did the roofer send?",
        "What is the fee?",
        "What did they quote?",
        "Sum the lease up. Don't quote it verbatim.",
        "Say it in your words, not word for word.",
    ],
)
def test_these_do_not(question: str) -> None:
    assert not asks_for_quotes(question)


@pytest.mark.parametrize(
    "value",
    [
        "The fee is 30 euros, due on the third day",
        '1. "The tenant\'s dog may be kept in the house."',
        "- The fee is 30 euros ... third day of each month.",
        "Pets:\nThe tenant’s dog\n  may be kept in the house.",
        ["The tenant's dog may be kept", "due on the third day of each month"],
        {"quote": "may be kept in the house", "why": "It names the animals that are allowed."},
        'Clause 4 says of it: "The fee is 30 euros, due on the third day".',
        "The lease has these passages on it:\nThe fee is 30 euros, due on",
        "Section 3",
        17,
        None,
    ],
)
def test_what_stands_in_the_documents_is_quoted(value: JsonValue) -> None:
    assert unquoted(value, CORPUS) == ""


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("Yes, a dog may be kept.", "Yes, a dog may be kept."),
        ("Yes", "Yes"),
        ("No.", "No."),
        ("The fee is 30 euros, due\nThe fee is 40 euros, due", "The fee is 40 euros, due"),
        ('Clause 4 says of it: "The fee is 40 euros, due".', 'Clause 4 says of it: "The fee is 40 euros, due".'),
        (["may be kept in the garden"], "may be kept in the garden"),
        (
            "The fee is 30 euros ... the fourth day of each month",
            "The fee is 30 euros ... the fourth day of each month",
        ),
    ],
)
def test_what_does_not_is_told(value: JsonValue, line: str) -> None:
    assert unquoted(value, CORPUS) == line


def test_a_quote_is_found_where_two_pieces_of_a_long_text_meet() -> None:
    text = "x " * ((1 << 19) - 9) + "The  fee is\n30 euros, due on the third day." + " y" * 5_000
    corpus = Corpus((Document("long.txt", text),), text, (0,))
    assert unquoted("The fee is 30 euros, due on the third day.", corpus) == ""
    assert unquoted("The fee is 40 euros, due on the third day.", corpus) != ""


async def test_what_is_no_quote_may_be_mended_once() -> None:
    engine = ScriptedEngine([LOOK, 'FINAL("Yes, a fee of 30 euros.")', LOOK_AGAIN, 'FINAL("The fee is 30 euros.")'])
    answer = await ask(engine, ScriptedRepl([SEEN, SEEN + " "]), question="Quote the passage on the fee.")
    assert (answer.value, answer.confirmed) == ("The fee is 30 euros.", True)
    assert "No document says 'Yes, a fee of 30 euros.'" in engine.completions[2].messages[-1].content


async def test_and_is_then_not_confirmed() -> None:
    final = 'FINAL("Yes, a fee of 30 euros.")'
    answer = await ask(ScriptedEngine([LOOK, final, final]), ScriptedRepl([SEEN]), question="Quote the fee.")
    assert (answer.value, answer.confirmed) == ("Yes, a fee of 30 euros.", False)
    assert answer.reason.startswith("no document says 'Yes, a fee of 30 euros.'")


async def test_elsewhere_an_answer_is_in_the_models_own_words() -> None:
    answer = await ask(ScriptedEngine([LOOK, 'FINAL("Yes, a fee of 30 euros.")']), ScriptedRepl([SEEN]))
    assert answer.confirmed


async def test_a_question_like_one_whose_program_quotes_is_shown_that_and_has_to_write_a_block() -> None:
    final = 'FINAL("Yes, a fee of 30 euros.")'
    engine = ScriptedEngine([LOOK, final, LOOK_AGAIN, 'FINAL("The fee is 30 euros.")'])
    question = "Quote each passage of the lease that says what the fee is."
    await ask(engine, ScriptedRepl([SEEN, SEEN + " "]), question=question)
    told = engine.completions[2].messages[-1].content
    assert "llm_filter(found" in told
    assert f"Now write the block for your question: {question}" in told
    assert "Write a block of Python." in told
