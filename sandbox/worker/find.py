"""Where a pattern is in the documents: exactly, nearly, or by its words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from sandbox.worker.corpus import Corpus

Position: TypeAlias = tuple[int, int]  # start, end in the context

COUNT_CAP = 10_000  # matches are counted up to here
_META = re.compile(r"[\\^$.|?*+()\[\]{}]")
_QUOTES = "'\"`´‘’‚“”„"
_HYPHENS = "-‐‑‒–—"
_GAP = f"[\\s{re.escape(_HYPHENS)}]"


@dataclass(frozen=True, slots=True)
class Found:
    """All the matches of one pattern, in order, and how they were found."""

    positions: list[Position]
    how: str  # "exact" or "loose"
    note: str = ""  # one remark for the reader, such as that the pattern is no regular expression

    @property
    def is_capped(self) -> bool:
        return len(self.positions) >= COUNT_CAP


def find(corpus: Corpus, pattern: str | re.Pattern[str], *, case: bool, regex: bool) -> Found:
    """Return the matches of pattern: as it is; else with white space, quotes and hyphens taken loosely."""
    text = pattern if isinstance(pattern, str) else pattern.pattern
    compiled, note = _compiled(pattern, case=case, regex=regex)
    hits = _regex_hits(corpus, compiled) if compiled else _literal_hits(corpus, text, case=case)
    if positions := _capped(hits):
        return Found(positions, "exact", note)
    return Found(_capped(_loose_hits(corpus, text, case=case)), "loose", note)


def _compiled(pattern: str | re.Pattern[str], *, case: bool, regex: bool) -> tuple[re.Pattern[str] | None, str]:
    """Return the pattern as a regular expression, None where plain text search does the same, faster."""
    if not isinstance(pattern, str):
        return pattern, ""
    if not regex or not _META.search(pattern):
        return None, ""
    try:
        # ^ and $ mean lines: a document's beginning is somewhere inside the context.
        return re.compile(pattern, re.MULTILINE | (0 if case else re.IGNORECASE)), ""
    except (re.error, OverflowError, RecursionError) as error:
        return None, f"not a valid regular expression ({error}), so searched as plain text"


def _capped(hits: Iterable[Position]) -> list[Position]:
    positions = []
    for hit in hits:
        positions.append(hit)
        if len(positions) == COUNT_CAP:
            break
    return positions


def _regex_hits(corpus: Corpus, compiled: re.Pattern[str]) -> Iterator[Position]:
    for document in corpus.documents:
        for match in compiled.finditer(corpus.context, document.start, document.end):
            if match.end() > match.start():
                yield match.start(), match.end()


def _literal_hits(corpus: Corpus, text: str, *, case: bool) -> Iterator[Position]:
    # str.find over lower case is many times faster than re.IGNORECASE, which cannot use a literal prefix.
    haystack, needle = (corpus.as_it_is(), text) if case else (corpus.folded(), text.lower())
    if haystack is None:
        yield from _regex_hits(corpus, re.compile(re.escape(text), re.IGNORECASE))
        return
    for document in corpus.documents:
        at = document.start
        for part, base, stop in haystack.stretches(document.start, document.end, lambda at: at + len(needle) - 1):
            found = part.find(needle, max(at - base, 0), document.end - base)
            while 0 <= found < stop - base:
                at = base + found + len(needle)
                yield base + found, at
                found = part.find(needle, at - base, document.end - base)


def _loose_hits(corpus: Corpus, text: str, *, case: bool) -> Iterator[Position]:
    folded = None if case else corpus.folded()
    wanted = text if folded is None else text.lower()
    source = loose_pattern(wanted)
    if not source:
        return
    compiled = re.compile(source, 0 if case or folded is not None else re.IGNORECASE)
    haystack = corpus.as_it_is() if folded is None else folded
    # A match has no more than so many characters outside of gaps, however long its gaps are.
    longest = re.compile(f"(?:{_GAP}*[^\\s{re.escape(_HYPHENS)}]){{{len(wanted) + 1}}}")
    for document in corpus.documents:
        end, at = document.end, document.start

        def reach(position: int, end: int = end) -> int:
            match = longest.match(corpus.context, position, end)
            return match.end() if match else end

        for part, base, stop in haystack.stretches(document.start, end, reach):
            match = compiled.search(part, max(at - base, 0), end - base)
            while match and match.start() < stop - base:
                at = base + match.end()
                yield base + match.start(), at
                match = compiled.search(part, match.end(), end - base)


def loose_pattern(text: str) -> str:
    """Return a regular expression for `text` as words: any white space or hyphen between them, any quote or none.

    Empty when text holds no letter and no digit.
    """
    if not any(character.isalnum() for character in text):
        return ""
    parts: list[str] = []
    for piece in re.split(f"({_GAP}+|[{_QUOTES}])", text.strip()):
        if piece and piece in _QUOTES:
            parts.append(f"[{_QUOTES}]?")
        elif piece and not piece.strip(_HYPHENS + " \t\r\n\f\v"):
            parts.append(_GAP + ("+" if piece[0].isspace() else "*"))
        elif piece:
            parts.append(re.escape(piece))
    return "".join(parts)
