"""Which characters of the documents a run has read, and who has read them.

What a model was given is looked for in the documents as the host reads them, piece by piece: nothing that code in the
jail says of itself counts. A piece that stands in several places counts for one of them, and one shorter than an anchor
for none (but lines that follow each other, given one by one, count however short they are), so that what is told to be
read was read.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from rlm_local.documents.corpus import locate
from rlm_local.grammar import parsed
from rlm_local.types import Corpus, DocumentCoverage, Span, Stretch, Text

ANCHOR_CHARS = 24  # shorter pieces stand in many places by chance
_ANCHORS = (200, 64, ANCHOR_CHARS)  # the longest that is found tells best which of several places is meant
MOST_SCANNED_CHARS = 1_000_000_000  # of the context, in all searches for one answer: about a second
_NEAR_CHARS = 1 << 16  # behind the last piece, where the next one is looked for first
_LOOKING = frozenset(  # names whose use looks through all documents
    {"context", "search", "table", "chunks", "timeline", "listed", "ask_each"}
)


def coverage(
    corpus: Corpus, *, shown: Sequence[str], given: Sequence[str], read_below: Sequence[Span], codes: Sequence[str]
) -> tuple[DocumentCoverage, ...]:
    """Return for each document what of it was printed, given to a sub-model, only searched by code, or none of them.

    shown: outputs as the model was shown them. given: prompts of sub-calls. read_below: what children have read.
    codes: the cells that ran.
    """
    places = _Places(corpus)
    printed, read = _by_document(corpus, places.all(shown)), _by_document(corpus, places.all(given))
    for span in read_below:
        read[span.document].append((span.start, span.end))
    searched = searched_documents(codes, len(corpus.documents))
    found = []
    for index, document in enumerate(corpus.documents):
        seen = _merged(printed[index])
        by_sub_models = _without(_merged(read[index]), seen)
        rest = _without([(0, len(document.text))], _merged([*seen, *by_sub_models]))
        found.append(
            DocumentCoverage(
                document=document.name,
                chars=len(document.text),
                printed=_stretches(seen),
                given=_stretches(by_sub_models),
                searched=_stretches(rest if index in searched else []),
                untouched=_stretches([] if index in searched else rest),
            )
        )
    return tuple(found)


def searched_documents(codes: Iterable[str], count: int) -> set[int]:
    """Return the indices of the documents that code could look through: those it names, or all."""
    found: set[int] = set()
    for code in codes:
        tree = parsed(code)
        if tree is None:
            continue  # it never ran
        picked: dict[int, int] = {}  # by the identity of the name in documents[3]
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and (index := _constant(node.slice)) is not None:
                picked[id(node.value)] = index
        for node in ast.walk(tree):
            if not isinstance(node, ast.Name):
                continue
            if node.id in _LOOKING or (node.id == "documents" and id(node) not in picked):
                return set(range(count))
            if node.id == "documents" and -count <= picked[id(node)] < count:
                found.add(picked[id(node)] % count)
    return found


def _constant(index: ast.expr) -> int | None:
    sign = 1
    while isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.USub):  # Python takes more than we can recurse
        sign, index = -sign, index.operand
    value = index.value if isinstance(index, ast.Constant) else None
    return sign * value if isinstance(value, int) else None


class _Places:
    """Finds the pieces of texts that stand in the context."""

    def __init__(self, corpus: Corpus) -> None:
        self._context = corpus.context
        self._left = MOST_SCANNED_CHARS
        self._behind = 0  # the last piece

    def all(self, texts: Iterable[str]) -> Iterator[tuple[int, int]]:
        """Yield start and end, in the context, of each piece of each text."""
        for text in texts:
            if (at := self._next_lines(text)) >= 0:
                yield self._behind, self._line_end(at + len(text))
                self._behind = at + len(text)
            else:
                yield from self._pieces(text)

    def _next_lines(self, text: str) -> int:
        """Return where a text stands that is the lines behind the last piece, however short they are; or -1."""
        at = self._line_end(self._behind)
        if not text or not at > self._behind > 0 or not self._stands(text, at):
            return -1
        return at if self._context[at + len(text) : at + len(text) + 1] in ("", "\r", "\n") else -1

    def _stands(self, text: str, at: int) -> bool:
        return self._context[at : at + len(text)] == text

    def _line_end(self, at: int) -> int:
        """Return where line breaks end that begin there: nobody reads them, and they go with the line before."""
        while self._context[at : at + 1] in ("\r", "\n"):
            at += 1
        return at

    def _pieces(self, text: str) -> Iterator[tuple[int, int]]:
        position = 0
        while position + ANCHOR_CHARS <= len(text):
            at = self._at(text, position)
            if at < 0:
                position = _next_try(text, position)
                continue
            length = _common(text, position, self._context, at)
            yield at, at + length
            position, self._behind = position + length, at + length

    def _at(self, text: str, position: int) -> int:
        """Return where a piece stands that begins at `position`: where the last one ended, if it does there; or -1."""
        if self._behind and self._stands(text[position : position + ANCHOR_CHARS], self._behind):
            return self._behind
        for size in _ANCHORS:
            if (at := self._find(text[position : position + size])) >= 0:
                return at
        return -1

    def _find(self, anchor: str) -> int:
        if self._left <= 0 or not anchor.strip():
            return -1
        near = self._context.find(anchor, self._behind, self._behind + _NEAR_CHARS)
        self._left -= _NEAR_CHARS if near < 0 else near - self._behind
        if near >= 0:
            return near
        at = self._context.find(anchor)
        self._left -= at if at >= 0 else len(self._context)
        return at


def _next_try(text: str, position: int) -> int:
    """Return where the next piece may begin: on the next line, or a word on."""
    line = text.find("\n", position, position + ANCHOR_CHARS)
    return line + 1 if line >= 0 else position + ANCHOR_CHARS // 2


def _common(one: str, start: int, other: Text, at: int) -> int:
    """Return how many characters two texts have in common from there on."""
    low, high = ANCHOR_CHARS, ANCHOR_CHARS
    most = min(len(one) - start, len(other) - at)
    while high < most and one[start + low : start + 2 * high] == other[at + low : at + 2 * high]:
        low, high = min(2 * high, most), min(2 * high, most)
    high = min(2 * high, most)
    while low < high:  # all before low is the same; find the first difference
        middle = (low + high + 1) // 2
        if one[start + low : start + middle] == other[at + low : at + middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _by_document(corpus: Corpus, places: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Return stretches of the context as stretches of documents; header lines belong to none."""
    found: list[list[tuple[int, int]]] = [[] for _ in corpus.documents]
    for start, end in places:
        index, _ = locate(corpus, start)
        while index < len(corpus.documents) and corpus.starts[index] < end:
            begin, length = corpus.starts[index], len(corpus.documents[index].text)
            first, last = max(0, start - begin), min(length, end - begin)
            if first < last:
                found[index].append((first, last))
            index += 1
    return found


def _merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _without(stretches: Sequence[tuple[int, int]], taken: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what is left of stretches; both are merged."""
    left = []
    for start, end in stretches:
        for first, last in taken:
            if last <= start or first >= end:
                continue
            if first > start:
                left.append((start, first))
            start = last
            if start >= end:
                break
        if start < end:
            left.append((start, end))
    return left


def _stretches(pairs: Iterable[tuple[int, int]]) -> tuple[Stretch, ...]:
    return tuple(Stretch(start, end) for start, end in pairs)
