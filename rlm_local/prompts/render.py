"""Messages of a run. Append-only: the messages of turn t+1 begin with those of turn t, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from rlm_local.prompts.profile import Profile
from rlm_local.prompts.similar import Program, fields_of, places, similar
from rlm_local.types import Document, Message, Role

HEAD_CHARS = 800  # of the first document: a line of headings and a few of a table
MAX_NAMES = 12  # document names told to the model at the start; the rest it can read from `documents`


@dataclass(frozen=True, slots=True)
class Situation:
    """The true numbers of a run, told to the model."""

    question: str
    document_names: tuple[str, ...]
    context_chars: int
    subcall_tokens: int  # the longest prompt of one llm_query
    subcall_chars: int  # the same in characters of these documents, rounded down
    turns: int
    head: str = ""  # how the first document begins, for a profile that shows it
    answer_schema: str = ""  # JSON; empty when any answer will do


def opening_messages(profile: Profile, situation: Situation) -> tuple[Message, ...]:
    """Return the messages before the first turn: rules, worked turns, and the question last."""
    question = Template(profile.question).substitute(
        question=situation.question,
        documents=_counted(len(situation.document_names), "document"),
        characters=f"{situation.context_chars:,}",
        names=_names(situation.document_names),
        subcall_tokens=f"{situation.subcall_tokens:,}",
        subcall_characters=f"{situation.subcall_chars:,}",
        turns=situation.turns,
        head=situation.head,
    )
    question = _with_programs(profile, situation, question)
    if situation.answer_schema:
        question += "\n" + Template(profile.typed).substitute(schema=situation.answer_schema)
    return (Message(Role.SYSTEM, profile.system), *profile.worked, Message(Role.USER, question))


def _with_programs(profile: Profile, situation: Situation, told: str) -> str:
    """Return what is told of a run with what answered the likest questions, about other documents of this kind.

    Over lines it stands before; over many documents behind, for the beginning of one of them lies between.
    """
    if fields := fields_of(situation.head):
        like = similar(situation.question, profile.programs)
        before = Template(profile.similar).substitute(programs=_shown(like), places=places(fields))
        return f"{before}\n\n{told}" if like else told
    if len(situation.document_names) < 2:
        return told
    like = similar(situation.question, profile.programs_of_documents, by_two=True)
    behind = Template(profile.similar_of_documents).substitute(programs=_shown(like), question=situation.question)
    return f"{told}\n\n{behind}" if like else told


def denied_note(profile: Profile, question: str, documents: int) -> str:
    """Return the note on an answer that the documents do not tell, where no sub-model has read them.

    A question like those whose program asked every document is answered by asking every document, not by one search.
    """
    return (documents > 1 and _like(profile, question, "ask_each(", profile.denied_of_documents)) or profile.denied


def quoted_note(profile: Profile, question: str) -> str:
    """Return how passages are quoted, where a program that does it is like the question; else ""."""
    return _like(profile, question, "passages", profile.quoted)


def _like(profile: Profile, question: str, what: str, told: str) -> str:
    """Return a note with the program that is likest to the question, where that has something in its code, or ""."""
    likest = similar(question, profile.programs_of_documents, by_two=True)[-1:]
    if not likest or what not in likest[0].code:
        return ""
    return Template(told).substitute(program=_shown(likest), question=question)


def _shown(programs: Sequence[Program]) -> str:
    return "\n\n".join(f"Question: {one.question}\n\n{one.code}" for one in programs)


def shown_head(profile: Profile, documents: Sequence[Document]) -> str:
    """Return what a root is shown of its documents before its first turn; empty for a profile that shows nothing.

    That is how the first one begins, in whole lines where it has them, else in whole words.
    """
    if not (profile.shows_head and documents):
        return ""
    text = documents[0].text
    head = text[:HEAD_CHARS]
    if len(text) > len(head):
        end = head.rfind("\n", HEAD_CHARS // 2)
        end = end if end >= 0 else head.rfind(" ")
        head = head[:end] if end >= 0 else head
    return head.strip()


def observation_message(profile: Profile, output: str, note: str) -> Message:
    """Return the user message that follows a turn: what was printed, then what to mind."""
    text = Template(profile.observation).substitute(output=output, note=note)
    return Message(Role.USER, text.strip())


def subcall_messages(profile: Profile, prompt: str) -> tuple[Message, ...]:
    """Return the messages of one llm_query."""
    return (Message(Role.SYSTEM, profile.subcall), Message(Role.USER, prompt))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return shown if len(names) <= MAX_NAMES else f"{shown}, and {len(names) - MAX_NAMES:,} more"
