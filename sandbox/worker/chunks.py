"""chunks(): a text cut into pieces at natural edges, so that nothing of it is lost and nothing is read twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from sandbox.worker.corpus import Corpus
from sandbox.worker.passages import Match, Matches, passages_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Stretch: TypeAlias = tuple[int, int]

_HEADING = re.compile(
    r"^(?:#{1,6} .*|(?:article|section|chapter|part|annex|appendix|schedule|exhibit)\s+[\divxlc]+\b.*"
    r"|\d{1,3}(?:\.\d{1,3}){0,4}\.?\s+(?-i:[A-Z]).{0,100})$",
    re.IGNORECASE | re.MULTILINE,
)
_EDGES = ("\n\n", "\n", ". ", "? ", "! ", "; ", " ")  # the better, the earlier
_ROOM = 0.8  # share of what a prompt may hold: an instruction stands with the chunk


class Chunks:
    """The REPL name `chunks`. limits: the variable LIMITS of the cell that runs."""

    def __init__(self, corpus: Corpus, limits: Callable[[], Mapping[str, object]]) -> None:
        self._corpus = corpus
        self._limits = limits

    def __call__(
        self,
        text: object = None,
        chars: int | None = None,
        *,
        tokens: int | None = None,
        lines: int | None = None,
        headings: bool = False,
        overlap: int = 0,
    ) -> Matches:
        """Return the pieces of a text, or of all documents one after the other, in order.

        A piece knows document, line, start and end, and str(piece) is its text. It has at most so many characters,
        tokens (of this text's usual length) or lines, by default as many characters as a prompt for llm_query has
        room for; headings=True begins one at each heading too. It ends at a paragraph's end, else a line's, a
        sentence's, a word's. overlap: so many characters (with lines=, lines) of a piece stand in the next one again.
        """
        if sum(size is not None for size in (chars, tokens, lines)) > 1:
            raise TypeError("chunks() takes one of chars=, tokens= and lines=")
        size = lines if lines is not None else self._chars(chars, tokens)
        unit = "lines" if lines is not None else "tokens" if tokens is not None else "characters"
        if size < 1:
            raise ValueError(f"chunks of {lines or tokens or chars} {unit} hold nothing; take 1 or more")
        if not 0 <= overlap < size:
            raise ValueError(f"overlap={overlap} must be at least 0 and less than the {size} that a chunk holds")
        found = Matches()
        cut = _cut if lines is None else _cut_lines
        for passage in passages_of(text, self._corpus, "chunks"):
            whole, line, at = passage.text, passage.line, 0
            for first, last in _parts(whole, headings=headings):
                for start, end in cut(whole, first, last, size, overlap):
                    line, at = line + whole.count("\n", at, start) - whole.count("\n", start, at), start
                    found.append(
                        Match(passage.document, passage.start + start, passage.start + end, line, whole[start:end])
                    )
        return found

    def _chars(self, chars: int | None, tokens: int | None) -> int:
        if chars is not None:
            return int(chars)
        limits = self._limits()
        most, of_tokens = int(str(limits["prompt_characters"])), int(str(limits["prompt_tokens"]))
        return int(_ROOM * most) if tokens is None else int(tokens * most / max(1, of_tokens))


def _parts(text: str, *, headings: bool) -> Iterator[Stretch]:
    """Yield the stretches between headings, the whole text where they do not count."""
    starts = [match.start() for match in _HEADING.finditer(text)] if headings else []
    bounds = sorted({0, *starts, len(text)})
    yield from pairwise(bounds)


def _cut(text: str, first: int, last: int, size: int, overlap: int) -> Iterator[Stretch]:
    start = first
    while start < last:
        end = last if last - start <= size else _edge(text, start + max(overlap, size // 2), start + size)
        yield start, end
        start = end if end == last else end - overlap


def _edge(text: str, lowest: int, highest: int) -> int:
    """Return the best place for an end in (lowest, highest]: behind the last natural edge."""
    for edge in _EDGES:
        # An edge that ends at `highest` is inside.
        if (found := text.rfind(edge, lowest, highest)) >= 0 and found + len(edge) > lowest:
            return found + len(edge)
    return highest


def _cut_lines(text: str, first: int, last: int, size: int, overlap: int) -> Iterator[Stretch]:
    starts = [first]
    while (found := text.find("\n", starts[-1], last) + 1) and found < last:
        starts.append(found)
    for at in range(0, len(starts), size - overlap):
        yield starts[at], starts[at + size] if at + size < len(starts) else last
        if at + size >= len(starts):
            return
