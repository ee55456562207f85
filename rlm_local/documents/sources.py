"""Passages that a run has read, and where in the documents they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rlm_local.documents.corpus import locate
from rlm_local.documents.passages import QUOTE_CHARS, around, passage_around, passages
from rlm_local.documents.words import content_words
from rlm_local.types import Corpus

READING_CHARS = 2_000_000  # of all readings together, the newest; more would take seconds
MIN_PIECE_CHARS = 24  # a shorter piece of text may stand anywhere by chance
_CORE_CHARS = 60
_NEIGHBOURHOOD_CHARS = 300
_SCAN_CHARS = 300_000_000  # of context that one Finder looks through: seven times 42 MB, under a tenth of a second
_BLOCK_CHARS = 20_000  # readings are cut into passages block by block
# What print() of a list or of repr() puts between pieces of a document's own text.
_ESCAPED = re.compile(r"\\[nrt'\"\\]|['\"], ['\"]|\[['\"]|['\"]\]")


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters start..end of a source: some of a document's text, or something that a run has printed or asked."""

    source: str
    start: int
    end: int
    document: int | None  # index in the corpus; None for a reading
    offset: int = 0  # where the source begins in the document
    words: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", content_words(self.text))

    @property
    def text(self) -> str:
        return self.source[self.start : self.end]

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in the document."""
        return self.offset + self.start, self.offset + self.end


def read_passages(readings: Sequence[str]) -> Iterator[Passage]:
    """Yield the passages of the newest READING_CHARS of all readings, the newest reading first, no text twice."""
    seen: set[str] = set()
    left = READING_CHARS
    for reading in reversed(readings):
        end = min(len(reading), left)
        left -= end
        for block in range(0, end, _BLOCK_CHARS):
            for start, stop in passages(reading, block, min(block + _BLOCK_CHARS, end)):
                text = reading[start:stop]
                if len(text) >= MIN_PIECE_CHARS and text not in seen:
                    seen.add(text)
                    yield Passage(reading, start, stop, None)
        if left <= 0:
            return


class Finder:
    """Finds passages of readings in a corpus, looking through a bounded amount of text over its life."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._left = max(_SCAN_CHARS, 2 * len(corpus.context))
        self._found: dict[str, int] = {}

    def find(self, passage: Passage, pattern: re.Pattern[str] | None) -> Passage | None:
        """Return the quote for a passage, a slice of a document; None when it is in none, or not to be found cheaply.

        pattern: what the quote has to be around, where the passage contains it.
        """
        hit = pattern.search(passage.source, passage.start, passage.end) if pattern else None
        start, end = (hit.start(), hit.end()) if hit else (passage.start, passage.end)
        if passage.document is not None:
            return self._quote(passage.document, passage.offset + start, passage.offset + end)
        for left, right in _attempts(passage, start, end, alone=len(self._corpus.documents) == 1):
            offset = self._find(passage.source[left:right])
            if offset < 0:
                continue
            # Quote what the passage says, not the neighbourhood that only told which document it is from.
            inner_start, inner_end = max(left, start), min(right, end)
            document, at = locate(self._corpus, offset + inner_start - left)
            if at + inner_end - inner_start <= len(self._corpus.documents[document].text):
                return self._quote(document, at, at + inner_end - inner_start)
        return None

    def _quote(self, document: int, start: int, end: int) -> Passage:
        text, first = around(self._corpus.documents[document].text, start, min(end, start + QUOTE_CHARS))
        return Passage(text, *passage_around(text, start - first, end - first), document, first)

    def _find(self, piece: str) -> int:
        """Return where `piece` stands in the context, or -1, also when too much has been looked through."""
        if piece not in self._found:
            if self._left <= 0:
                return -1
            offset = self._corpus.context.find(piece)
            self._left -= offset if offset >= 0 else len(self._corpus.context)
            self._found[piece] = offset
        return self._found[piece]


def _attempts(passage: Passage, start: int, end: int, *, alone: bool) -> Iterator[tuple[int, int]]:
    """Yield pieces of a reading to look for, each holding or inside of start..end, the most telling ones first.

    alone: the corpus is one document, so no neighbourhood is needed to tell it from others with the same words.
    """
    source = passage.source
    if not alone:
        yield max(0, passage.start - _NEIGHBOURHOOD_CHARS), min(len(source), passage.end + _NEIGHBOURHOOD_CHARS)
    yield passage.start, passage.end
    # Printed with a number before it, or from inside of a list: only the middle is the document's own.
    room = max(0, (_CORE_CHARS - (end - start)) // 2)
    middle = (start + end) // 2
    core_start = max(passage.start, min(start - room, middle - _CORE_CHARS // 2))
    core_end = min(passage.end, max(end + room, middle + _CORE_CHARS // 2))
    if end - start > _CORE_CHARS:
        core_start, core_end = middle - _CORE_CHARS // 2, middle + _CORE_CHARS // 2
    for mark in _ESCAPED.finditer(source, passage.start, passage.end):
        if mark.end() <= middle:
            core_start = max(core_start, mark.end())
        elif mark.start() > middle:
            core_end = min(core_end, mark.start())
    if core_end - core_start >= MIN_PIECE_CHARS:
        yield core_start, core_end
