"""The last resort of search(): passages that hold most of a pattern's words, the rarer ones counting more."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from sandbox.worker.corpus import Corpus
from sandbox.worker.find import Position
from sandbox.worker.folding import Haystack

Place: TypeAlias = tuple[int, int]  # document index, position in the context
_Hit: TypeAlias = "tuple[float, Position, tuple[str, ...]]"  # score, where, and which of the words are there

_MAX_WORDS = 24
_POSITIONS_PER_WORD = 20_000  # a word more frequent than this points nowhere
_RESCORED = 256  # candidate windows that are read closely
_KEPT_SHARE = 0.6  # of the best score; passages below it are noise
_NEAREST = 3  # passages by default: by words alone, what comes after the best ones misleads a small model
_MOST = 8  # by default: more only where they are as good as the last of them, or hold a rare word that no other shows
_TIED_SHARE = 0.98  # of the last one's score that is kept anyway
_RARE = 8  # a word that occurs no more often is one that the question is about
_RARE_WORDS = 2  # in such a passage, one of them shown by no other
_RARE_SHARE = 0.4  # of the best score, for such a passage
_LETTERS = re.compile(r"[^\W_]+")
_ESCAPES = re.compile(r"\\[a-zA-Z]|\(\?[a-zA-Z:=!<]+|\{\d*,?\d*\}")
_NAMES = re.compile(r"\b(?:[A-Z]\w*[a-z]\w*|\w*\d\w*)\b")
_SENTENCE_START = re.compile(r"(?:^|[.?!:\n])\s*$")
_STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about after all also an and any are as at be been but by can could did do does each for from had has have
        he her his how i if in into is it its many may me more most much must my no nor not of on one or our shall
        she should so some such than that the their them then there these they this those to under up us was we
        were what when where which who whom whose why will with within would you your
        """,
    )
)


@dataclass(frozen=True, slots=True)
class Nearest:
    """What the words of a pattern led to."""

    hits: list[tuple[Position, tuple[str, ...]]]  # best first: where, and which of the words are there
    counts: dict[str, int]  # how often each word occurs, up to _POSITIONS_PER_WORD


def content_words(pattern: str) -> list[str]:
    """Return the words of a text or regular expression that carry meaning, lower case, in order, once each."""
    words = dict.fromkeys(word.lower() for word in _LETTERS.findall(_ESCAPES.sub(" ", pattern)))
    content = [word for word in words if word not in _STOPWORDS and (len(word) > 1 or word.isdigit())]
    return content[:_MAX_WORDS]


def telling_names(pattern: str) -> list[str]:
    """Return the words of a question that name one thing: capitalised inside a sentence, or with a digit.

    What is all in capitals is a form to fill in as often as a name.
    """
    found = _NAMES.finditer(pattern)
    inside = (
        match[0] for match in found if not _SENTENCE_START.search(pattern, max(0, match.start() - 8), match.start())
    )
    return list(dict.fromkeys(inside))


def nearest(corpus: Corpus, words: list[str], *, chars: int, limit: int | None) -> Nearest:
    """Return the passages, about `chars` long, in which most of the words meet.

    limit: how many; None: three, and up to eight where a question asks for several things, because then others are
    as good as the third, or a rare word of the question stands in no better one.
    """
    text = corpus.folded() or corpus.as_it_is()
    places = _places(corpus, text, words)
    counts = {word: len(found) for word, found in places.items()}
    weights = {
        word: math.log1p(len(corpus.context) / (chars * max(1, count))) for word, count in counts.items() if count
    }
    named = _named(corpus, words)
    asked, of_asked = _asked(corpus, words), max(weights.values(), default=0.0)
    hits: list[_Hit] = []
    for index, start, end in _clusters(corpus, places, weights, named, chars):
        scored = _closely(text, (start, end), weights, chars)
        if scored is not None:
            score, position, present = scored
            of_name = _of_name(named, index, present) + (of_asked if index in asked else 0.0)
            hits.append((score + of_name, position, present))
    hits.sort(key=lambda hit: (-hit[0], hit[1][0]))
    rare = {word for word, count in counts.items() if 0 < count <= _RARE}
    return Nearest(_chosen(hits, rare, chars, limit), counts)


def _chosen(hits: list[_Hit], rare: set[str], chars: int, limit: int | None) -> list[tuple[Position, tuple[str, ...]]]:
    """Return which of the hits, best first, are shown; none overlaps another. rare: words that few passages hold."""
    kept: list[tuple[Position, tuple[str, ...]]] = []
    near: list[float] = []  # scores of those that are kept for being nearest
    shown: set[str] = set()  # of the rare words
    for score, position, present in hits:
        if score < _RARE_SHARE * hits[0][0] or len(kept) >= (limit or _MOST):
            break
        if any(position[0] - chars // 2 <= end and start <= position[1] + chars // 2 for (start, end), _ in kept):
            continue
        theirs = rare.intersection(present)
        has_room = len(near) < (limit or _NEAREST) or (not limit and score >= _TIED_SHARE * near[-1])
        is_near = has_room and score >= _KEPT_SHARE * hits[0][0]
        if is_near or (not limit and len(theirs) >= _RARE_WORDS and not theirs <= shown):
            kept.append((position, present))
            shown |= theirs
            near += [score] if is_near else []
    return kept


def _named(corpus: Corpus, words: list[str]) -> list[dict[str, float]]:
    """Return for each document the words that its name holds, and what each is worth.

    A question names a document by its title at least as often as by its words, and a title seldom stands in
    the passage that answers. A word that is in every name tells none apart and is worth nothing.
    """
    names = [set(_LETTERS.findall(document.name.lower())) for document in corpus.documents]
    having = {word: sum(word in name for name in names) for word in words}
    worth = {word: math.log(len(names) / count) for word, count in having.items() if count}
    return [{word: worth[word] for word in words if word in name} for name in names]


def _asked(corpus: Corpus, words: list[str]) -> set[int]:
    """Return the documents that a question names in full; none when it names them all.

    What is asked about one document is answered in it: being there is worth as much as the rarest word.
    """
    names = [set(_LETTERS.findall(document.name.rpartition("/")[2].lower())) for document in corpus.documents]
    told = {index for index, name in enumerate(names) if name and name <= set(words)}
    return told if len(told) < len(names) else set()


def _of_name(named: list[dict[str, float]], index: int, present: Iterable[str]) -> float:
    """Return what a document's name adds to a passage of it: the words that the passage itself lacks."""
    return sum(worth for word, worth in named[index].items() if word not in present)


def _stem(word: str) -> str:
    """Return what a word shares with its inflections, near enough for a last resort."""
    for ending in ("ations", "ation", "ing", "ies", "ed", "es", "s", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def _places(corpus: Corpus, text: Haystack, words: list[str]) -> dict[str, list[Place]]:
    """Return for each word where words that begin with its stem are, in order, up to the cap."""
    stems = {word: _stem(word) for word in words}
    longest = max(map(len, stems.values()), default=1)
    places: dict[str, list[Place]] = {word: [] for word in words}
    for index, document in enumerate(corpus.documents):
        next_at = dict.fromkeys(words, document.start)
        for part, base, stop in text.stretches(document.start, document.end, lambda at: at + longest - 1):
            for word, stem in stems.items():
                found = places[word]
                at = part.find(stem, max(next_at[word] - base, 0), document.end - base)
                while 0 <= at < stop - base and len(found) < _POSITIONS_PER_WORD:
                    if base + at == document.start or not part[at - 1].isalnum():
                        found.append((index, base + at))
                    next_at[word] = base + at + len(stem)
                    at = part.find(stem, at + len(stem), document.end - base)
    return places


def _clusters(
    corpus: Corpus,
    places: dict[str, list[Place]],
    weights: dict[str, float],
    named: list[dict[str, float]],
    chars: int,
) -> list[tuple[int, int, int]]:
    """Return the stretches that promise most, as document index, start and end; the cheap first look.

    A stretch is two windows of one document. A word that occurs everywhere leads nowhere: such words count in
    the close look only.
    """
    leading = [word for word in weights if len(places[word]) < _POSITIONS_PER_WORD] or list(weights)
    weight_at: dict[tuple[int, int], dict[str, float]] = {}
    for word in leading:
        for index, position in places[word]:
            weight_at.setdefault((index, position // chars), {})[word] = weights[word]
    totals = []
    for (index, bucket), here in weight_at.items():
        around = weight_at.get((index, bucket + 1), {}) | here
        totals.append((sum(around.values()) + _of_name(named, index, around), index, bucket))
    totals.sort(key=lambda total: (-total[0], total[1], total[2]))
    clusters = []
    for _, index, bucket in totals[:_RESCORED]:
        document = corpus.documents[index]
        clusters.append((index, max(document.start, bucket * chars), min(document.end, (bucket + 2) * chars)))
    return clusters


def _closely(
    text: Haystack, cluster: tuple[int, int], weights: dict[str, float], chars: int
) -> tuple[float, Position, tuple[str, ...]] | None:
    """Return score, position and words of the best stretch of at most `chars` in a cluster."""
    start, end = cluster
    part = text.part(start, end)
    seen = sorted(
        (match.start(), match.end(), word)
        for word in weights
        for match in re.finditer(rf"\b{re.escape(_stem(word))}\w*", part)
    )
    best: tuple[float, int, Position, tuple[str, ...]] | None = None
    for i, (first, _, _) in enumerate(seen):
        within = [hit for hit in seen[i:] if hit[1] - first <= chars]
        if not within:
            continue
        present = {word for _, _, word in within}
        score = sum(weights[word] for word in present)
        last = _last_needed(within, present)
        if best is None or (score, -(last - first)) > (best[0], -best[1]):
            in_order = tuple(word for word in weights if word in present)
            best = (score, last - first, (start + first, start + last), in_order)
    return (best[0], best[2], best[3]) if best else None


def _last_needed(within: list[tuple[int, int, str]], present: set[str]) -> int:
    """Return the end of the shortest run from the first hit that holds every word."""
    missing = set(present)
    for _, end, word in within:
        missing.discard(word)
        if not missing:
            return end
    return within[-1][1]
