"""Which passages of the documents an answer rests on.

Only what the run has read can be cited: passages that search() printed, and document text inside of sub-call
prompts and printed output. Of these, a passage that contains the answer's value comes first, then one that shares
the answer's words, rare words counting more; the question's words decide between equals. Every quote is a slice
of what the host was given, so it stands word for word at its offsets whatever the model claims: of a str of its own,
or of the sealed memory that the jail maps too, which nobody can change.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from rlm_local.documents.corpus import line_at
from rlm_local.documents.passages import QUOTE_CHARS, around, passages
from rlm_local.documents.sources import Finder, Passage, read_passages
from rlm_local.documents.words import content_words, value_pattern
from rlm_local.types import Citation, Corpus, JsonValue, Span

MIN_SHARE = 0.4  # of the answer's words, by weight, in a passage without its value
MIN_QUESTION_SHARE = 0.5  # of the question's words, for an answer without words of its own ("yes")
MIN_SHARED_WORDS = 2  # or all, where there are fewer
_TELLING_WORDS = 8  # a long answer is not asked to stand in one passage: only its heaviest words are counted
_HIT_SCORE = 1.5  # above what the answer's words alone can reach, which is 1
_NAME_SCORE = 0.5  # for a passage of the document that the question names
_NEAR_BEST = 0.7  # a passage scoring less than this share of the best one adds noise, not evidence
_SHORT_VALUE_CHARS = 4  # shorter values stand in many places by chance
_MOST_LEAVES = 24  # of a list or dict
_MOST_LEAF_CHARS = 4_000  # of one text in an answer
_MOST_SOURCE_CHARS = 1_000_000  # of one source that is looked through for the answer's value
_MOST_PRINTED_CHARS = 4_000_000  # of all printed spans together, the first ones
_CONSIDERED = 12  # best passages looked at per value, before duplicates go


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One value to find passages for."""

    pattern: re.Pattern[str] | None
    needs_a_word: bool  # what contains the value also has a word of it, so that most passages need no search
    words: frozenset[str]  # of the answer
    question_words: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Scored:
    score: float
    quote: Passage  # in a document


def cite(
    value: JsonValue,
    spans: Sequence[Span],
    readings: Sequence[str],
    corpus: Corpus,
    *,
    sources: Sequence[Span] = (),
    question: str = "",
    limit: int = 3,
) -> tuple[Citation, ...]:
    """Return up to `limit` passages that an answer rests on, the best first; () when nothing fits.

    sources: what the answer itself names, which comes first, in its order; `limit` is raised to their number.
    value: the answer. Of a list or dict each element is cited once, in order, a dict's keys helping like a question.
    spans: what search() printed, in the order of printing. One that does not fit its document is passed over.
    readings: prompts of sub-calls and printed text, oldest first; the newest 2 M characters are looked at.

    A passage fits when it contains the value (one of under four characters needs a word of the question beside
    it), or holds MIN_SHARE of the answer's words; MIN_QUESTION_SHARE of the question's for a plain yes or no.
    Quotes do not overlap, and of passages with the same words only one document is named: the one that the question
    names, else the first that was printed, or the first that stands in the corpus. The context is searched a bounded
    number of times.
    """
    if limit < 1 or value is None or not corpus.documents:
        return ()
    limit = max(limit, len(sources))
    pool = [*_printed(spans, corpus), *read_passages(readings)]
    weights = _weights(pool)
    finder = Finder(corpus)
    named = _named(corpus, question)
    everything = [*_wanted(value, content_words(question))]
    chosen = _without_duplicates(_named_by(sources, everything, named, corpus, finder), limit)
    single = not isinstance(value, list | dict)
    for wanted in everything:
        ranked = _ranked(wanted, pool, weights, named, finder)
        floor = _NEAR_BEST * ranked[0].score if ranked else 0.0
        fresh = [scored.quote for scored in ranked if scored.score >= floor]
        chosen = _without_duplicates([*chosen, *fresh], limit if single else min(limit, len(chosen) + 1))
        if len(chosen) >= limit:
            break
    return tuple(_citation(passage, corpus) for passage in chosen)


def _named_by(
    sources: Sequence[Span], wanted: Sequence[_Wanted], named: Sequence[float], corpus: Corpus, finder: Finder
) -> Iterator[Passage]:
    """Yield quotes from spans that an answer names: of a long one what fits best, else its beginning."""
    for span in sources:
        end = min(span.end, span.start + _MOST_SOURCE_CHARS)
        pool = [*_printed([replace(span, end=end)], corpus)] if end - span.start > QUOTE_CHARS else []
        weights = _weights(pool)
        ranked = (_ranked(one, pool, weights, named, finder) for one in wanted if pool)
        if best := next((found[0] for found in ranked if found), None):
            yield best.quote
            continue
        near, first = around(corpus.documents[span.document].text, span.start, min(end, span.start + QUOTE_CHARS))
        passage = Passage(near, span.start - first, min(end, span.start + QUOTE_CHARS) - first, span.document, first)
        if (quote := finder.find(passage, None)) is not None:
            yield quote


def _wanted(value: JsonValue, question_words: frozenset[str]) -> Iterator[_Wanted]:
    # An answer may be as large as its maker likes, so no more of it is read than can matter.
    for whole, words in islice(_leaves(value, question_words), _MOST_LEAVES):
        leaf = whole[:_MOST_LEAF_CHARS] if isinstance(whole, str) else whole
        pattern = value_pattern(leaf)
        own = content_words(str(leaf)) if pattern or isinstance(leaf, str) else frozenset()
        # Scripts without spaces between words hide a value's words inside of longer ones.
        yield _Wanted(pattern, bool(own) and str(leaf).isascii(), own, words)


def _leaves(value: JsonValue, words: frozenset[str]) -> Iterator[tuple[JsonValue, frozenset[str]]]:
    if isinstance(value, dict):
        for key, element in value.items():
            yield from _leaves(element, words | content_words(str(key)[:_MOST_LEAF_CHARS]))
    elif isinstance(value, list):
        for element in value:
            yield from _leaves(element, words)
    elif value is not None:
        yield value, words


def _printed(spans: Sequence[Span], corpus: Corpus) -> Iterator[Passage]:
    seen: set[tuple[int, int, int]] = set()
    left = _MOST_PRINTED_CHARS
    for span in spans:
        left -= span.end - span.start
        if left < 0:
            return
        if not 0 <= span.document < len(corpus.documents):
            continue
        text = corpus.documents[span.document].text
        if not 0 <= span.start < span.end <= len(text):
            continue
        near, first = around(text, span.start, span.end)
        for start, end in passages(near, span.start - first, span.end - first):
            if (place := (span.document, first + start, first + end)) not in seen:
                seen.add(place)
                yield Passage(near, start, end, span.document, first)


def _weights(pool: Iterable[Passage]) -> Mapping[str, float]:
    """Return what each word of the pool tells: the fewer passages have it, the more."""
    count, in_passages = 0, Counter[str]()
    for passage in pool:
        count += 1
        in_passages.update(passage.words)
    weights = {word: math.log(1 + count / found) for word, found in in_passages.items()}
    return _Weights(weights, unseen=math.log(1 + count))


class _Weights(dict[str, float]):
    def __init__(self, weights: Mapping[str, float], *, unseen: float) -> None:
        super().__init__(weights)
        self._unseen = unseen

    def __missing__(self, word: str) -> float:
        return self._unseen


def _named(corpus: Corpus, question: str) -> list[float]:
    """Return for each document how much the question names it: _NAME_SCORE for the one it names best, 0 for others.

    A word that stands in every name ("licenses/...") names nothing.
    """
    asked = content_words(question)
    names = [content_words(document.name) & asked for document in corpus.documents]
    found = Counter(word for name in names for word in name)
    sums = [sum(math.log(len(names) / found[word]) for word in name) for name in names]
    best = max(sums)
    return [_NAME_SCORE * one / best if best else 0.0 for one in sums]


def _ranked(
    wanted: _Wanted,
    pool: Sequence[Passage],
    weights: Mapping[str, float],
    named: Sequence[float],
    finder: Finder,
) -> list[_Scored]:
    """Return the best fitting passages as quotes in documents, best first."""
    fits = [
        (score + (0.0 if passage.document is None else named[passage.document]), -order, passage)
        for order, passage in enumerate(pool)
        if (score := _score(wanted, passage, weights)) > 0
    ]
    fits.sort(key=lambda fit: fit[:2], reverse=True)
    found: list[_Scored] = []
    tried = 0
    for score, _, passage in fits:
        if tried == _CONSIDERED:
            break
        quote = finder.find(passage, wanted.pattern)
        if quote is None:
            continue
        tried += 1
        if passage.document is None and quote.document is not None:
            score += named[quote.document]
        found.append(_Scored(score, quote))
    found.sort(key=lambda scored: scored.score, reverse=True)  # stable: what was read first stays first
    return found


def _score(wanted: _Wanted, passage: Passage, weights: Mapping[str, float]) -> float:
    """Return how well a passage fits; 0 when it does not."""
    words = passage.words
    asked = wanted.question_words & words
    question_share = _share(asked, wanted.question_words, weights)
    hit = None
    if wanted.pattern and not (wanted.needs_a_word and wanted.words.isdisjoint(words)):
        hit = wanted.pattern.search(passage.source, passage.start, passage.end)
    if hit:
        if len(hit[0]) < _SHORT_VALUE_CHARS and wanted.question_words and not asked:
            return 0.0
        return _HIT_SCORE + question_share
    own, least = (wanted.words, MIN_SHARE) if wanted.words else (wanted.question_words, MIN_QUESTION_SHARE)
    shared = own & words
    share = _share(shared, own, weights)
    if not shared or share < least or len(shared) < min(MIN_SHARED_WORDS, len(own)):
        return 0.0
    return share + question_share


def _share(shared: frozenset[str], words: frozenset[str], weights: Mapping[str, float]) -> float:
    if not shared:
        return 0.0
    heaviest = sorted((weights[word] for word in words), reverse=True)[:_TELLING_WORDS]
    return min(1.0, sum(weights[word] for word in shared) / sum(heaviest))


def _without_duplicates(quotes: Iterable[Passage], limit: int) -> list[Passage]:
    kept: list[Passage] = []
    texts: set[str] = set()
    for quote in quotes:
        folded = " ".join(quote.text.casefold().split())
        overlaps = any(
            quote.document == other.document and quote.place[0] < other.place[1] and other.place[0] < quote.place[1]
            for other in kept
        )
        if len(kept) < limit and not overlaps and folded not in texts:
            texts.add(folded)
            kept.append(quote)
    return kept


def _citation(quote: Passage, corpus: Corpus) -> Citation:
    assert quote.document is not None  # Finder gives passages of documents only
    document = corpus.documents[quote.document]
    start, end = quote.place
    return Citation(document.name, start, end, line_at(document.text, start), quote.text)
