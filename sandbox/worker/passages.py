"""From a position in a document to the passage that a reader wants to see around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sandbox.worker.corpus import Corpus, Document

_SENTENCE_ENDS = (". ", "? ", "! ", "; ")
_MERGED_WINDOWS = 3  # a passage grows by merging to at most this many windows


@dataclass(frozen=True, slots=True)
class Match:
    """One passage that search() found. str(match) is its text, word for word as in the document."""

    document: str  # the document's name
    start: int  # characters from the document's beginning
    end: int  # exclusive
    line: int  # 1-based line on which it starts
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        short = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return f"Match({self.document!r}, line {self.line}, offset {self.start}: {short!r})"

    def __len__(self) -> int:
        return len(self.text)

    def __contains__(self, part: str) -> bool:
        return part in self.text


class Matches(list[Match]):
    """What search() returns. str(matches) is all passages, each under its document's name, ready for a prompt.

    nowhere: names and numbers of what was searched for that no document holds; who reads the passages is told.
    """

    nowhere: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = [f"(Nowhere in the documents: {', '.join(self.nowhere)})"] if self.nowhere else []
        return "\n\n".join([*told, *(f"{match.document}, line {match.line}:\n{match.text}" for match in self)])


def passages_of(given: object, corpus: Corpus, tool: str) -> Iterator[Match]:
    """Yield what a tool is to read: all documents for None or the whole context, else what is given, or a list of it.

    A document is one passage; what search() or chunks() found stays where it was found; a str is of no document.
    Raises TypeError, which names the tool, for what is no text.
    """
    if given is None or given is corpus.context:
        given = corpus.documents
    for one in given if isinstance(given, list | tuple) else [given]:
        if isinstance(one, Match):
            yield one
        elif isinstance(one, Document):
            yield Match(one.name, 0, len(one), 1, one.text)
        elif isinstance(one, str):
            yield Match("", 0, len(one), 1, one)
        else:
            raise TypeError(f"{tool}() takes a text, a document or a list of them, not {type(one).__name__}")


@dataclass(slots=True)
class Window:
    """A stretch of the context around one match or several."""

    start: int
    end: int


def window_around(text: str, match: tuple[int, int], bounds: tuple[int, int], chars: int) -> Window:
    """Return about `chars` characters around match, inside bounds, moved outwards to a natural edge.

    A natural edge is a line's, else a sentence's, else a word's; documents may be one giant line. A match longer
    than `chars` is shown from its beginning.
    """
    first, last = bounds
    start, end = match[0], min(match[1], match[0] + 4 * chars)
    padding = max(0, chars - (end - start)) // 2
    slack = max(40, chars // 4)
    left, right = max(first, start - padding), min(last, end + padding)
    left = _edge_before(text, max(first, left - slack), left) if left > first else first
    right = _edge_after(text, right, min(last, right + slack)) if right < last else last
    while left < start and text[left].isspace():
        left += 1
    while right > end and text[right - 1].isspace():
        right -= 1
    return Window(left, right)


def _edge_before(text: str, lowest: int, position: int) -> int:
    if (newline := text.rfind("\n", lowest, position)) >= 0:
        return newline + 1
    sentence = max(text.rfind(mark, lowest, position) for mark in _SENTENCE_ENDS)
    if sentence >= 0:
        return sentence + 2
    return text.rfind(" ", lowest, position) + 1 or position


def _edge_after(text: str, position: int, highest: int) -> int:
    if (newline := text.find("\n", position, highest)) >= 0:
        return newline
    sentences = [found for mark in _SENTENCE_ENDS if (found := text.find(mark, position, highest)) >= 0]
    if sentences:
        return min(sentences) + 1
    space = text.find(" ", position, highest)
    return space if space >= 0 else position


def merge(windows: list[Window], chars: int) -> list[Window]:
    """Return the windows of one document in order, overlapping ones joined, none printed twice.

    Joining stops at a few windows' length: matches every hundred characters are not one endless passage.
    """
    merged: list[Window] = []
    for window in sorted(windows, key=lambda window: window.start):
        last = merged[-1] if merged else None
        if last is None or window.start >= last.end:
            merged.append(window)
        elif window.end - last.start <= _MERGED_WINDOWS * chars:
            last.end = max(last.end, window.end)
        elif window.end > last.end:
            merged.append(Window(last.end, window.end))
    return merged


def line_of(text: str, document_start: int, position: int) -> int:
    """Return the 1-based line of the document on which position lies."""
    return text.count("\n", document_start, position) + 1
