"""rlm_query and its like. What a question rests on goes as spans of the documents where it can, else as a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sandbox.worker.corpus import Corpus, Document
from sandbox.worker.passages import Match
from sandbox.worker.values import Json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

Context: TypeAlias = "dict[str, str] | dict[str, list[list[int]]] | None"
Recurse: TypeAlias = "Callable[[Sequence[Mapping[str, object]]], list[dict[str, Any]]]"
"""Sends questions with their contexts; returns {"value", "refused"} for each."""


class Children:
    """The names rlm_*. One instance a session."""

    def __init__(self, corpus: Corpus, recurse: Recurse) -> None:
        self._corpus = corpus
        self._recurse = recurse

    def rlm_query(self, question: str, context: object = None) -> Any:
        """Return the answer to a question that is worked on like this one, over `context` or all documents."""
        (reply,) = self._ask("rlm_query", [question], context)
        if reply["refused"]:
            raise RuntimeError(reply["refused"])
        return reply["value"]

    def rlm_query_batched(self, questions: Sequence[str], contexts: object = None) -> list[Json]:
        """Return the answers to several questions, in their order.

        contexts: one for all of them, or a list with one for each.
        """
        if isinstance(questions, str) or not isinstance(questions, Sequence):
            raise TypeError(f"rlm_query_batched() takes a list of questions, not {type(questions).__name__}")
        if not questions:
            return []
        replies = self._ask("rlm_query_batched", questions, contexts)
        if all(reply["refused"] for reply in replies):
            raise RuntimeError(replies[0]["refused"])
        return [f"Error: {reply['refused']}" if reply["refused"] else reply["value"] for reply in replies]

    def _ask(self, function: str, questions: Sequence[str], contexts: object) -> list[dict[str, Any]]:
        for question in questions:
            if not isinstance(question, str):
                raise TypeError(f"{function}() takes text, not {type(question).__name__}; use str(...) around it")
        each = isinstance(contexts, list | tuple) and len(contexts) == len(questions) > 1
        if isinstance(contexts, list | tuple) and len(questions) > 1 and not each:
            raise ValueError(
                f"{len(contexts)} contexts for {len(questions)} questions; give one for each, or one for all"
            )
        given = list(contexts) if isinstance(contexts, list | tuple) and each else [contexts] * len(questions)
        return self._recurse(
            [
                {"question": str(question), "context": context_of(self._corpus, context)}
                for question, context in zip(questions, given, strict=True)
            ]
        )


def context_of(corpus: Corpus, given: object) -> Context:
    """Return {"spans": [[document, start, end], ...]} or {"text": ...}; None for all documents.

    given: None, a document, a passage that search() found, a text, or a list of these. A text that stands in a
    document goes as its span; where texts are mixed with spans, all go as text.
    Raises TypeError for anything else, ValueError for nothing.
    """
    if given is None:
        return None
    parts = (
        [given] if isinstance(given, str | Document | Match) else list(given) if isinstance(given, Sequence) else None
    )
    if parts is None or not all(isinstance(part, str | Document | Match) for part in parts):
        raise TypeError(
            f"context must be a text, a document, a passage of search(), or a list of these, not {type(given).__name__}"
        )
    spans = [span_of(corpus, part) for part in parts]
    if spans and all(span is not None for span in spans):
        return {"spans": [span for span in spans if span is not None]}
    text = "\n\n".join(part.text if isinstance(part, Document | Match) else str(part) for part in parts)
    if not text.strip():
        raise ValueError("context is empty; leave it out to ask about all documents")
    return {"text": text}


def span_of(corpus: Corpus, part: object) -> list[int] | None:
    """Return where a text, a document or a passage stands: [document, start, end]; None for a text of no document."""
    if isinstance(part, Match):
        for index, document in enumerate(corpus.documents):
            start, end = document.start + part.start, document.start + part.end
            if document.name == part.document and corpus.context[start:end] == part.text:
                return [index, part.start, part.end]
        part = part.text  # of a text that the cell has made
    if isinstance(part, Document):
        index = next(i for i, document in enumerate(corpus.documents) if document.start == part.start)
        return [index, 0, len(part)]
    text = str(part)
    at = corpus.context.find(text) if text.strip() else -1
    index = corpus.document_at(at) if at >= 0 else -1
    if index < 0 or at + len(text) > corpus.documents[index].end:
        return None
    start = at - corpus.documents[index].start
    return [index, start, start + len(text)]
