"""ask_each(): every document is asked once, from its own passages, in a real jail."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rlm_local.jail.session import JailSession
from rlm_local.types import CallForm, CallKind, CellResult, CellStatus, Document, JsonValue, SubCall, Usage
from tests.jail.conftest import LIMITS, WALL_S, corpus_of

pytestmark = pytest.mark.jail

LEASES = tuple(
    Document(f"lease-{number}", f"LEASE {number}\n\n{'The rent is due on the first. ' * 40}\n\n{rule}\n")
    for number, rule in ((1, "The tenant may keep one dog."), (2, "No animal may be kept."), (3, "It rains."))
)


async def answered(code: str) -> tuple[CellResult, list[tuple[str, CallForm]]]:
    asked: list[tuple[str, CallForm]] = []

    async def query(texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
        asked.extend((text, form) for text in texts)
        is_filter = form.kind is CallKind.FILTER
        values: list[JsonValue] = ["may keep" in text if is_filter else text.upper()[-9:] for text in texts]
        return [
            SubCall(text, str(value), Usage(), typed=True, value=value)
            for text, value in zip(texts, values, strict=True)
        ]

    async with await JailSession.start(corpus_of(*LEASES), LIMITS) as jail:
        result = await jail.execute(code, wall_s=WALL_S, query=query)
    return result, asked


async def test_each_document_is_asked_once_from_its_own_passages(nsjail: None) -> None:
    result, asked = await answered('print(ask_each("May the tenant keep an animal?", ["yes", "no"]))')
    assert result.stdout == "ask_each: 3 documents; no 2, yes 1\n{'lease-1': 'yes', 'lease-2': 'no', 'lease-3': 'no'}\n"
    passages = [text for text, _ in asked]
    assert ["keep one dog" in passages[0], "No animal" in passages[1]] == [True, True]
    assert all(form.args["condition"] == "May the tenant keep an animal?" for _, form in asked)
    assert {span.document for span in result.spans} >= {0, 1}


async def test_without_labels_an_answer_is_a_text_and_documents_may_be_named(nsjail: None) -> None:
    result, asked = await answered('print(ask_each("Which animal?", documents=["lease-2"]))')
    assert result.stdout == "ask_each: 1 document\n{'lease-2': 'H ANIMAL?'}\n"
    assert len(asked) == 1


async def test_other_labels_are_what_an_answer_may_be(nsjail: None) -> None:
    result, asked = await answered('print(ask_each("Which animal?", ["dog", "none"], "lease-1"))')
    assert "lease-1" in result.stdout
    assert asked[0][1].args["choices"] == ["dog", "none"]


async def test_a_document_without_a_word_of_the_question_is_asked_all_the_same(nsjail: None) -> None:
    _, asked = await answered('ask_each("Zebras?", ["yes", "no"])')
    assert [text for text, _ in asked] == ["(no passage of this document has a word of the question)"] * 3


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('ask_each("", ["yes"])', "ask_each() takes a question"),
        ('ask_each("Rent?", documents="lease-9")', "no document has 'lease-9'"),
    ],
)
async def test_what_is_wrong_is_told(nsjail: None, code: str, said: str) -> None:
    result, _ = await answered(code)
    assert result.status is CellStatus.RAISED
    assert said in result.error
