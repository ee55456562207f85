"""BM25 (Robertson and others, k1 1.2, b 0.75) over pieces of documents."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlm_local.types import Document

K1, B = 1.2, 0.75
PIECE_CHARS = 1_000
_WORD = re.compile(r"\w+")
_BREAK = re.compile(r"\n|(?<=[.!?]) ")


@dataclass(frozen=True, slots=True)
class Piece:
    document: str  # its name
    start: int  # characters from the document's beginning
    text: str

    @property
    def shown(self) -> str:
        return f"[{self.document}, from character {self.start}]\n{self.text}"


def pieces(documents: Sequence[Document], chars: int = PIECE_CHARS) -> Iterator[Piece]:
    """Cut documents into pieces of at most so many characters, after a line or a sentence where there is one.

    Joined again the pieces of a document are the document.
    """
    for document in documents:
        text, start = str(document.text), 0
        while start < len(text):
            end = min(start + chars, len(text))
            if end < len(text):
                breaks = [found.end() for found in _BREAK.finditer(text, start + chars // 2, end)]
                end = breaks[-1] if breaks else end
            yield Piece(document.name, start, text[start:end])
            start = end


class Index:
    """Pieces that can be looked for by words."""

    def __init__(self, many: Sequence[Piece]) -> None:
        self._pieces = list(many)
        self._lengths: list[int] = []
        self._holding: dict[str, list[tuple[int, int]]] = {}  # word -> piece, times
        for at, piece in enumerate(self._pieces):
            counts = Counter(words(f"{piece.document} {piece.text}"))
            self._lengths.append(counts.total())
            for word, times in counts.items():
                self._holding.setdefault(word, []).append((at, times))
        self._mean = sum(self._lengths) / len(self._lengths) if self._lengths else 1.0

    def best(self, query: str, count: int) -> list[Piece]:
        """Return at most so many pieces, the best first; those without any word of the query are left out."""
        points: dict[int, float] = {}
        for word in set(words(query)):
            holding = self._holding.get(word, [])
            rarity = math.log(1 + (len(self._pieces) - len(holding) + 0.5) / (len(holding) + 0.5))
            for at, times in holding:
                long = 1 - B + B * self._lengths[at] / self._mean
                points[at] = points.get(at, 0.0) + rarity * times * (K1 + 1) / (times + K1 * long)
        ordered = sorted(points, key=lambda at: (-points[at], at))
        return [self._pieces[at] for at in ordered[:count]]


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
