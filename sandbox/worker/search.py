"""search(): the cell's eyes. Prints what it finds, word for word and with its place, and returns it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sandbox.worker.corpus import Corpus
from sandbox.worker.find import COUNT_CAP, Found, find
from sandbox.worker.passages import Match, Matches, Window, line_of, merge, window_around
from sandbox.worker.words import content_words, nearest, telling_names

Pattern: TypeAlias = "str | re.Pattern[str]"
Span: TypeAlias = tuple[int, int, int]  # document index, start, end in its text

_MAX_LIMIT = 100
_MATCHING = 8  # passages of a pattern by default
_CHARS = (80, 8000)


@dataclass(frozen=True, slots=True)
class _Passage:
    """One passage to print."""

    document: int
    match: Match
    remark: str = ""  # which words of the pattern it holds, where that is all it matches by


@dataclass(frozen=True, slots=True)
class _View:
    """What one pattern comes to: a headline, and passages in the order of the documents."""

    headline: str
    passages: list[_Passage]
    nowhere: tuple[str, ...] = ()  # names and numbers of the pattern that no document holds


class Search:
    """The REPL name `search`. report: told the span of every passage that was printed."""

    def __init__(self, corpus: Corpus, report: Callable[[Sequence[Span]], None]) -> None:
        self._corpus = corpus
        self._report = report

    def __call__(
        self,
        pattern: Pattern | Sequence[Pattern],
        limit: int | None = None,
        chars: int = 400,
        case: bool = False,
        regex: bool = True,
        show: bool = True,
    ) -> Matches:
        """Print the passages that match pattern, each with document, line and offset, and return them.

        pattern: a text or regular expression, or a list of them. When nothing matches, the passages that hold
        most of its words are found instead. limit: passages of a pattern, by default 8 that match or 3 that only
        come near (more where several come equally near); chars: length of a passage, about.
        show: False returns without printing, for passages that only a sub-model is to read.
        """
        say = print if show else _say_nothing
        limit = None if limit is None else min(max(1, int(limit)), _MAX_LIMIT)
        chars = min(max(_CHARS[0], int(chars)), _CHARS[1])
        numbers: dict[tuple[int, int, int], int] = {}  # by span; two patterns may find the same passage
        matches = Matches()
        for one in _patterns(pattern):
            view = self._view(one, limit, chars, case=case, regex=regex)
            matches.nowhere += view.nowhere
            say(view.headline)
            for passage in view.passages:
                match = passage.match
                span = (passage.document, match.start, match.end)
                place = f"{match.document} line {match.line} (offset {match.start}){passage.remark}"
                if span in numbers:
                    say(f"[{numbers[span]}] {place}: shown above")
                    continue
                matches.append(match)
                numbers[span] = len(matches)
                say(f"[{len(matches)}] {place}:\n{match.text}\n")
        self._report(list(numbers))
        return matches

    def _view(self, pattern: Pattern, limit: int | None, chars: int, *, case: bool, regex: bool) -> _View:
        text = pattern if isinstance(pattern, str) else pattern.pattern
        found = find(self._corpus, pattern, case=case, regex=regex)
        if not found.positions:
            return self._view_by_words(text, limit, chars, found.note)
        windows = self._windows(found, limit or _MATCHING, chars)
        passages = [self._passage(index, window) for index, window in windows]
        return _View(_headline(text, found, len(passages)), passages)

    def _windows(self, found: Found, limit: int, chars: int) -> list[tuple[int, Window]]:
        """Return at most `limit` windows, every document that has matches getting its turn before a second one."""
        positions_of: dict[int, list[tuple[int, int]]] = {}
        for position in found.positions:
            positions_of.setdefault(self._corpus.document_at(position[0]), []).append(position)
        windows_of: dict[int, list[Window]] = {}
        for index, positions in positions_of.items():
            document = self._corpus.documents[index]
            bounds = (document.start, document.end)
            # A few more than are shown: overlapping ones will be joined.
            around = [window_around(self._corpus.context, one, bounds, chars) for one in positions[: 8 * limit]]
            windows_of[index] = merge(around, chars)[:limit]
        turns = [(turn, index) for index, windows in windows_of.items() for turn in range(len(windows))]
        chosen = sorted((index, turn) for turn, index in sorted(turns)[:limit])
        return [(index, windows_of[index][turn]) for index, turn in chosen]

    def _view_by_words(self, text: str, limit: int | None, chars: int, note: str) -> _View:
        words = content_words(text)
        result = nearest(self._corpus, words, chars=chars, limit=limit)
        remark = f" ({note})" if note else ""
        if not result.hits:
            return _View(f"no match for {text!r}{remark}, and none of its words occurs in the documents", [])
        passages = []
        for position, present in result.hits:
            index = self._corpus.document_at(position[0])
            document = self._corpus.documents[index]
            window = window_around(self._corpus.context, position, (document.start, document.end), chars)
            passages.append(self._passage(index, window, f" has {', '.join(present)}"))
        missing = [word for word in words if not result.counts[word]]
        absent = f" (nowhere in the documents: {', '.join(missing)})" if missing else ""
        headline = f"no exact match for {text!r}{remark}; nearest passages by its words{absent}:"
        return _View(headline, passages, tuple(name for name in telling_names(text) if name.lower() in missing))

    def _passage(self, index: int, window: Window, remark: str = "") -> _Passage:
        document = self._corpus.documents[index]
        match = Match(
            document=document.name,
            start=window.start - document.start,
            end=window.end - document.start,
            line=line_of(self._corpus.context, document.start, window.start),
            text=self._corpus.context[window.start : window.end],
        )
        return _Passage(index, match, remark)


def _patterns(pattern: object) -> list[Pattern]:
    """Return what was asked for as a list. Raises TypeError or ValueError in words that a model can act on."""
    patterns: list[Any] = list(pattern) if isinstance(pattern, list | tuple | set) else [pattern]
    if not patterns:
        raise ValueError("search() was given an empty list; name at least one text to look for")
    for one in patterns:
        if isinstance(one, re.Pattern) and isinstance(one.pattern, str):
            continue
        if not isinstance(one, str):
            raise TypeError(f"search() takes a text or a list of texts, not {type(one).__name__}: {one!r:.80}")
        if not one.strip():
            raise ValueError("search() was given an empty text; name the words to look for")
    return patterns


def _headline(text: str, found: Found, shown: int) -> str:
    count = len(found.positions)
    number = f"more than {COUNT_CAP} matches" if found.is_capped else "1 match" if count == 1 else f"{count} matches"
    remark = f" ({found.note})" if found.note else ""
    if found.how == "loose":
        head = f"no exact match for {text!r}{remark}; {number} when spaces, quotes and hyphens may differ"
    else:
        head = f"{number} for {text!r}{remark}"
    plural = "passage" if shown == 1 else "passages"
    return f"{head}, showing {shown} {plural}:" if shown < count else f"{head}:"


def _say_nothing(text: str) -> None:
    pass
