"""What a question to a child rests on: spans of the documents where it can be, so that no text is sent, or a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from sandbox.worker.corpus import Corpus, Document
from sandbox.worker.passages import Match

Context: TypeAlias = "dict[str, str] | dict[str, list[list[int]]] | None"


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
    spans = [_span(corpus, part) for part in parts]
    if spans and all(span is not None for span in spans):
        return {"spans": [span for span in spans if span is not None]}
    text = "\n\n".join(part.text if isinstance(part, Document | Match) else str(part) for part in parts)
    if not text.strip():
        raise ValueError("context is empty; leave it out to ask about all documents")
    return {"text": text}


def _span(corpus: Corpus, part: object) -> list[int] | None:
    if isinstance(part, Match):
        index = next(i for i, document in enumerate(corpus.documents) if document.name == part.document)
        return [index, part.start, part.end]
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
