"""Searching without a folded copy of the documents finds what searching in one finds, wherever a stretch ends."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_local.types import Document
from sandbox.worker.corpus import Corpus
from sandbox.worker.find import find, loose_pattern
from sandbox.worker.folding import KEPT_BYTES, Haystack, can_fold
from sandbox.worker.words import content_words, nearest
from tests.jail.conftest import worker_corpus

# Words that overlap themselves, long gaps, quotes, and letters whose lower case is odd: final sigma, Kelvin, sharp s.
PIECES = ["notice", "Notice", "period", "aba", "ABA", "it’s", "wire-transfer", "ΟΔΟΣ", "ΣΑΣ", "\u212a", "Straße", "É"]
GAPS = [" ", "\n", "  \n\t ", "-", " – ", "", ".", "\u2028"]
SPOKEN = st.lists(st.sampled_from(PIECES + GAPS), max_size=60).map("".join)
ASKED = st.lists(st.sampled_from(PIECES + GAPS), min_size=1, max_size=6).map("".join).filter(lambda text: text.strip())


def corpus_of(texts: list[str], *, stretch_chars: int | None) -> Corpus:
    """Return the texts as the worker has them. stretch_chars: None folds all of it at once."""
    corpus = worker_corpus(*(Document(f"Notice {number}", text) for number, text in enumerate(texts)))
    if stretch_chars is not None:
        corpus._folded = Haystack(corpus.context, fold=True, kept_bytes=0, stretch_chars=stretch_chars)
    return corpus


def in_a_copy(corpus: Corpus, text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return how and where `text` is found in a folded copy of the whole context."""
    copy = corpus.context.lower()
    for how, source in (("exact", re.escape(text.lower())), ("loose", loose_pattern(text.lower()))):
        places = [
            match.span()
            for document in corpus.documents
            for match in (re.compile(source).finditer(copy, document.start, document.end) if source else ())
        ]
        if places:
            return how, places
    return "loose", []


@given(st.lists(SPOKEN, min_size=1, max_size=4), ASKED, st.integers(1, 40))
def test_the_matches_are_those_of_a_folded_copy(texts: list[str], asked: str, stretch_chars: int) -> None:
    corpus = corpus_of(texts, stretch_chars=stretch_chars)
    found = find(corpus, asked, case=False, regex=False)
    assert (found.how, found.positions) == in_a_copy(corpus, asked)


@given(st.lists(SPOKEN, min_size=1, max_size=4), ASKED, st.integers(1, 40), st.integers(80, 200))
def test_the_nearest_passages_are_those_of_a_folded_copy(
    texts: list[str], asked: str, stretch_chars: int, chars: int
) -> None:
    words = content_words(asked)
    there = nearest(corpus_of(texts, stretch_chars=None), words, chars=chars, limit=3)
    assert nearest(corpus_of(texts, stretch_chars=stretch_chars), words, chars=chars, limit=3) == there


@given(SPOKEN, st.integers(1, 40), st.data())
def test_a_part_is_folded_as_in_the_whole(text: str, stretch_chars: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    haystack = Haystack(text, fold=True, kept_bytes=0, stretch_chars=stretch_chars)
    assert haystack.part(start, end) == text.lower()[start:end]


def test_only_one_letter_keeps_a_text_from_being_folded() -> None:
    odd = [chr(code) for code in range(sys.maxunicode + 1) if len(chr(code).lower()) != 1]
    assert odd == ["\u0130"]
    assert not can_fold("I\u0130")


@pytest.mark.parametrize(
    ("pattern", "how"), [("THE NEEDLE", "exact"), ("the  needle", "loose"), ("A needle, if any", "loose")]
)
def test_a_large_text_is_searched_in_stretches(pattern: str, how: str) -> None:
    hay = "Hay upon hay, and nothing more of it.\n" * (KEPT_BYTES // 38)
    corpus = corpus_of([f"{hay}Here is the Needle. {hay}"], stretch_chars=None)
    found = find(corpus, pattern, case=False, regex=False)
    at = corpus.context.index("the Needle")
    assert (found.how, found.positions) == (how, [(at, at + 10)] if "if" not in pattern else [])
    stretches = list(corpus.folded().stretches(0, len(corpus.context), lambda at: at))  # type: ignore[union-attr]
    assert len(stretches) > 2
    (hit,) = nearest(corpus, ["needle"], chars=80, limit=3).hits
    assert corpus.context[slice(*hit[0])] == "Needle"


def test_a_loose_match_may_be_longer_than_a_stretch() -> None:
    gap = " \n" * 500
    corpus = corpus_of([f"before it the notice{gap}Period, and after"], stretch_chars=10)
    (position,) = find(corpus, "notice period", case=False, regex=False).positions
    assert corpus.context[slice(*position)] == f"notice{gap}Period"
