"""timeline(): where a text stands in dated entries, by day: what a chart, a log or a correspondence is asked for."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_local.days import headings
from sandbox.worker.corpus import Corpus, Document
from sandbox.worker.find import find
from sandbox.worker.passages import Match
from sandbox.worker.search import Pattern, Span

_SAID_CHARS = 120
_END = re.compile(r"[;\n|]")


@dataclass(frozen=True, slots=True)
class Entry(Match):
    """A match and its day, "YYYY-MM-DD": of its line, or of the nearest line above that begins with one."""

    day: str = ""

    def __str__(self) -> str:
        return f"{self.day or 'no day'}: {self.text}"

    def __repr__(self) -> str:
        return str(self)


class Timeline:
    """The REPL name `timeline`. report: told the span of every entry."""

    def __init__(self, corpus: Corpus, report: Callable[[Sequence[Span]], None]) -> None:
        self._corpus = corpus
        self._report = report
        self._headings: dict[int, tuple[list[int], list[str]]] = {}  # by a document's start: places in it, days

    def __call__(self, pattern: Pattern, documents: object = None) -> list[Entry]:
        """Return where pattern stands, up to the end of its clause, each with its day; the earliest first.

        pattern: a text, in whatever case, or a regular expression. documents: a document, its name or a list of them;
        by default all. Prints how many there are. Raises ValueError for a name that no document has.
        """
        chosen = self._corpus.some(documents)
        own = self._corpus.only(chosen)
        spans: list[Span] = []
        entries: list[Entry] = []
        first, counted, line = -1, 0, 0  # lines are counted on from match to match, not each from the beginning
        for start, end in find(own, pattern, case=False, regex=True).positions:
            document = own.documents[own.document_at(start)]
            if document.start != first:
                first = counted = document.start
                line = 1
            line += self._corpus.context.count("\n", counted, start)
            counted = start
            entry = self._entry(document, line, start, end)
            entries.append(entry)
            spans.append((self._corpus.index_of(document), entry.start, entry.end))
        self._report(spans)
        entries.sort(key=lambda entry: entry.day)
        print(f"timeline: {_told(entries, pattern, chosen, len(self._corpus.documents))}")
        return entries

    def _entry(self, document: Document, line: int, start: int, end: int) -> Entry:
        context = self._corpus.context
        limit = min(document.end, max(end, start + _SAID_CHARS))
        clause = _END.search(context, end, limit)
        stop = clause.start() if clause else limit
        said = context[start:stop].rstrip()
        first = start - document.start
        return Entry(document.name, first, first + len(said), line, said, self._day(document, first))

    def _day(self, document: Document, at: int) -> str:
        if document.start not in self._headings:
            found = headings(document.text)
            self._headings[document.start] = [place for place, _ in found], [day for _, day in found]
        places, days = self._headings[document.start]
        above = bisect_right(places, at)
        return days[above - 1] if above else ""


def _told(entries: Sequence[Entry], pattern: Pattern, chosen: Sequence[Document], of: int) -> str:
    where = chosen[0].name if len(chosen) == 1 else f"{len(chosen)} of {of} documents"
    text = pattern if isinstance(pattern, str) else pattern.pattern
    if not entries:
        return f"{text!r} stands nowhere in {where}"
    known = [entry.day for entry in entries if entry.day]
    days = f", {known[0]} to {known[-1]}" if known else ", none under a day"
    number = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
    return f"{number} with {text!r} in {where}{days}"
