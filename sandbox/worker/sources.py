"""What FINAL(..., sources=...) names: spans of the documents, and words that should stand in one."""

from __future__ import annotations

import re

from sandbox.worker.asking import span_of
from sandbox.worker.corpus import Corpus, Document
from sandbox.worker.passages import Match
from sandbox.worker.values import Json

MOST = 64  # as the host takes them
QUOTE_CHARS = 2_000
_MARKS = " \t\r\n\"'\u201c\u201d\u2018\u2019\u2026"  # that people put around a quote


def sources_of(corpus: Corpus, given: object) -> list[Json]:
    """Return [document, start, end] for each source that stands in a document, else its words.

    given: a passage, a document, a quote, or a list of these. A quote may differ from its document in white space, and
    stand in quotation marks. An empty document says nothing, and is passed over.
    Raises ValueError for more than MOST of them.
    """
    parts = list(given) if isinstance(given, list | tuple | set | frozenset) else [given]
    if len(parts) > MOST:
        raise ValueError(f"FINAL(sources=...) names {len(parts)} passages, but at most {MOST}; name the telling ones")
    return [_source(corpus, part) for part in parts if not (isinstance(part, Document) and not len(part))]


def _source(corpus: Corpus, part: object) -> Json:
    if isinstance(part, Match | Document) and (span := span_of(corpus, part)):
        return [*span]
    text = part.text if isinstance(part, Match | Document) else str(part)
    quote = text.strip(_MARKS)
    if quote and len(quote) <= QUOTE_CHARS and (found := _quoted(corpus, quote)):
        return found
    return text[:QUOTE_CHARS]


def _quoted(corpus: Corpus, quote: str) -> Json:
    """Return where a quote stands; None where it does not."""
    if span := span_of(corpus, quote):
        return [*span]
    words = r"\s+".join(map(re.escape, quote.split()))
    for found in re.finditer(words, corpus.context):
        index = corpus.document_at(found.start())
        if index >= 0 and found.end() <= corpus.documents[index].end:
            start = corpus.documents[index].start
            return [index, found.start() - start, found.end() - start]
    return None
