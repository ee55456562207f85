from __future__ import annotations

from typing import Any

import pytest

from rlm_local.server.chat_request import ChatMessage
from rlm_local.server.conversation import DOCUMENT_CHARS, Conversation, read_conversation
from rlm_local.server.problem import Problem

LONG = "The notice period is ninety days.\n" * 80


def read(*messages: tuple[str, Any]) -> Conversation:
    return read_conversation([ChatMessage(role=role, content=content) for role, content in messages])


def test_long_texts_are_documents_and_the_last_message_is_the_question() -> None:
    read_so = read(("user", LONG), ("assistant", "Yes?"), ("user", LONG), ("user", "How long?"))
    assert [document.name for document in read_so.documents] == ["message 1", "message 3"]
    assert {document.text for document in read_so.documents} == {LONG}
    assert read_so.question == "Earlier in this conversation:\nassistant: Yes?\n\nHow long?"


def test_parts_are_documents_of_their_own() -> None:
    parts = [{"type": "text", "text": LONG}, {"type": "text", "text": LONG}, {"type": "text", "text": "How long?"}]
    read_so = read(("user", parts))
    assert [document.name for document in read_so.documents] == ["message 1", "message 1 (2)"]
    assert read_so.question == "How long?"


def test_files_are_documents_in_their_order_and_none_twice() -> None:
    files = [{"type": "file", "file": {"file_id": name}} for name in ("b", "a", "b")]
    read_so = read(("user", [*files, {"type": "text", "text": "How long?"}]))
    assert (read_so.file_ids, read_so.documents) == (("b", "a"), ())


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (f"{LONG}\n\nHow long is it?", "How long is it?"),
        (f"{LONG}\n\nSummarise the above.", "Summarise the above."),
        (f"How long is it?\n\n{LONG}\n\nSigned: the buyer.", "How long is it?"),
        (f"Answer from this text:\n\n{LONG}\n\nSigned, the buyer", "Answer from this text:"),
    ],
)
def test_a_long_last_message_is_cut_into_document_and_question(text: str, question: str) -> None:
    read_so = read(("user", text))
    assert read_so.question == question
    (document,) = read_so.documents
    assert document.text in text
    assert len(document.text) > DOCUMENT_CHARS


def test_instructions_go_with_the_question_and_talk_as_far_as_there_is_room() -> None:
    talk = [("user", f"{number} {'x' * 1500}") for number in range(5)]
    read_so = read(("system", "Answer in German."), ("user", LONG), *talk, ("user", "How long?"))
    assert read_so.question.startswith("Answer in German.\n\nEarlier in this conversation:\nuser: 3 x")
    assert read_so.question.endswith("How long?")
    assert read_so.left_out == 3


def test_without_a_long_text_there_is_no_document() -> None:
    assert not read(("user", "Hi"), ("assistant", "Hello."), ("user", "Who are you?")).has_documents


def test_only_the_user_brings_files() -> None:
    with pytest.raises(Problem, match="only the user brings files"):
        read(("assistant", [{"type": "file", "file": {"file_id": "a"}}]), ("user", "How long?"))
