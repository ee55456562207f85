"""From a chat's messages to a question and the documents that it is asked of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlm_local.documents import own_name
from rlm_local.server.chat_request import ChatMessage, FilePart
from rlm_local.server.problem import Problem
from rlm_local.types import Document, Message, Role

DOCUMENT_CHARS = 2_000  # a longer text of the user's is a document
TALK_CHARS = 4_000  # of what was said before, as far as it goes with the question; the newest first
_ENDS_A_REQUEST = ("?", ":")


@dataclass(frozen=True, slots=True)
class Conversation:
    question: str  # with what was said before it, where something was
    documents: tuple[Document, ...]  # texts that stand in the messages
    file_ids: tuple[str, ...]  # documents that were uploaded, in order, none twice
    left_out: int = 0  # earlier messages for which the question had no room

    @property
    def has_documents(self) -> bool:
        return bool(self.documents or self.file_ids)


@dataclass(frozen=True, slots=True)
class _Said:
    role: str
    text: str


def read_conversation(messages: Sequence[ChatMessage]) -> Conversation:
    """Tell what is asked of which documents.

    The last message is the user's question. Files, and texts of the user's with more than DOCUMENT_CHARS
    characters, are documents, wherever they stand. A last text that is itself so long is cut in two: its last
    paragraph is the question (its first one where only that ends with ? or :), the rest a document. Instructions
    of the system's and shorter messages go with the question. Raises Problem (400) where no question is found.
    """
    if messages[-1].role != "user":
        raise Problem(400, "the last message must be the user's question", param="messages")
    documents: list[Document] = []
    file_ids: dict[str, None] = {}
    instructions: list[str] = []
    talk: list[_Said] = []
    question = ""
    for index, message in enumerate(messages):
        texts, ids = _parts(index, message)
        file_ids |= dict.fromkeys(ids)
        if message.role in ("system", "developer"):
            instructions += texts
            continue
        if message.role == "assistant":
            talk += [_Said("assistant", text) for text in texts]
            continue
        if index == len(messages) - 1:
            question, texts = _asked(texts)
        for text in texts:
            if len(text) > DOCUMENT_CHARS:
                documents.append(Document(f"message {index + 1}", text))
            elif index == len(messages) - 1:
                question = f"{text}\n\n{question}"
            else:
                talk.append(_Said("user", text))
    if not question.strip():
        raise Problem(400, "the last message holds no question", param="messages")
    whole, left_out = _with_talk(question.strip(), instructions, talk)
    return Conversation(whole, unique(documents), tuple(file_ids), left_out)


def engine_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Return the messages as an engine reads them. Raises Problem (400) for files, which only runs can read."""
    said = []
    for index, message in enumerate(messages):
        texts, ids = _parts(index, message)
        if ids:
            raise Problem(400, f"messages[{index}] has a file, which only a run reads", param="messages")
        role = Role.SYSTEM if message.role == "developer" else Role(message.role)
        said.append(Message(role, "\n\n".join(texts)))
    return tuple(said)


def unique(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Return the documents, each with a name of its own."""
    names = own_names(document.name for document in documents)
    return tuple(Document(name, document.text) for name, document in zip(names, documents, strict=True))


def own_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, none twice: a second one gets " (2)"."""
    taken: set[str] = set()
    return tuple(own_name(name, taken) for name in names)


def _parts(index: int, message: ChatMessage) -> tuple[list[str], list[str]]:
    """Return the texts of a message, and the ids of its files."""
    if isinstance(message.content, str):
        return [message.content], []
    ids = [part.file.file_id for part in message.content if isinstance(part, FilePart)]
    if ids and message.role != "user":
        raise Problem(400, f"messages[{index}] is the {message.role}'s, but only the user brings files")
    return [part.text for part in message.content if not isinstance(part, FilePart)], ids


def _asked(texts: list[str]) -> tuple[str, list[str]]:
    """Return the question in the last message, and what else stands there."""
    *others, last = texts or [""]
    if len(last) <= DOCUMENT_CHARS:
        return last, others
    text = last.strip()
    head, _, tail = text.rpartition("\n\n") if "\n\n" in text else text.rpartition("\n")
    first, _, rest = text.partition("\n\n") if "\n\n" in text else text.partition("\n")
    ends = [part.rstrip().endswith(_ENDS_A_REQUEST) and len(part) <= DOCUMENT_CHARS for part in (first, tail)]
    if ends == [True, False] and rest:
        return first, [*others, rest]
    if head and len(tail) <= DOCUMENT_CHARS:
        return tail, [*others, head]
    raise Problem(
        400,
        f"the last message has {len(last)} characters and no short last paragraph to be the question; "
        "send the document as a message or part of its own, or as a file",
        param="messages",
    )


def _with_talk(question: str, instructions: list[str], talk: list[_Said]) -> tuple[str, int]:
    kept: list[_Said] = []
    room = TALK_CHARS
    for said in reversed(talk):
        if len(said.text) > room:
            break
        room -= len(said.text)
        kept.insert(0, said)
    lines = [text.strip() for text in instructions if text.strip()]
    if kept:
        lines += ["Earlier in this conversation:\n" + "\n".join(f"{said.role}: {said.text.strip()}" for said in kept)]
    return "\n\n".join([*lines, question]), len(talk) - len(kept)
