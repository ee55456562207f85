"""chunks(): nothing lost, nothing twice, no piece too long, and each at its place."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_local.types import Document
from sandbox.worker.chunks import Chunks
from tests.jail.conftest import worker_corpus

# These machines are shared: a slow draw is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT = "First paragraph, of two sentences. Here is the second.\n\nNext one is short.\nAnd has a second line."


def chunks_over(*texts: str) -> Chunks:
    documents = (Document(f"doc-{at}", text) for at, text in enumerate(texts))
    return Chunks(worker_corpus(*documents), lambda: {"prompt_characters": 100, "prompt_tokens": 25})


@patient
@given(st.text(alphabet="ab .\n\r?é\u2028", max_size=300), st.integers(1, 40))
def test_together_they_are_the_text(text: str, chars: int) -> None:
    pieces = chunks_over()(text, chars=chars)
    assert "".join(map(str, pieces)) == text
    assert all(0 < len(piece) <= chars for piece in pieces)
    assert all(text[piece.start : piece.end] == str(piece) for piece in pieces)
    assert [piece.line for piece in pieces] == [text.count("\n", 0, piece.start) + 1 for piece in pieces]


@patient
@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 30), st.data())
def test_an_overlap_stands_in_both(text: str, chars: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, chars - 1))
    pieces = chunks_over()(text, chars=chars, overlap=overlap)
    assert all(before.end - after.start == overlap for before, after in pairwise(pieces))
    assert all(len(piece) <= chars for piece in pieces)
    assert not text or (pieces[0].start, pieces[-1].end) == (0, len(text))


@patient
@given(st.text(alphabet="ab\n", max_size=100), st.integers(1, 5))
def test_lines_are_counted(text: str, lines: int) -> None:
    pieces = chunks_over()(text, lines=lines)
    assert "".join(map(str, pieces)) == text
    assert all(str(piece).count("\n") == lines for piece in pieces[:-1])


def test_a_piece_ends_where_a_reader_would_end_it() -> None:
    pieces = chunks_over(TEXT)(chars=60)
    assert [str(piece) for piece in pieces] == [TEXT[:56], TEXT[56:]]
    assert next(map(str, chunks_over(TEXT)(chars=40))) == "First paragraph, of two sentences. "


def test_by_default_a_piece_and_an_instruction_fit_a_prompt() -> None:
    assert max(len(piece) for piece in chunks_over("word " * 100)()) == 80
    assert max(len(piece) for piece in chunks_over("word " * 100)(tokens=10)) == 40


def test_each_document_begins_anew() -> None:
    assert [(piece.document, piece.start) for piece in chunks_over("one", "two")()] == [("doc-0", 0), ("doc-1", 0)]
    corpus = chunks_over("one", "two")
    assert [str(piece) for piece in corpus(["x", *corpus()])] == ["x", "one", "two"]


def test_a_piece_of_a_piece_stays_where_it_was_found() -> None:
    corpus = chunks_over("one\ntwo", "three\nfour\nfive")
    second = corpus(lines=1)[3]
    assert [(piece.document, piece.start, piece.end, piece.line, str(piece)) for piece in corpus(second, chars=2)] == [
        ("doc-1", 6, 8, 2, "fo"), ("doc-1", 8, 10, 2, "ur"), ("doc-1", 10, 11, 2, "\n"),
    ]  # fmt: skip


def test_headings_begin_a_piece() -> None:
    text = "Preamble\n# One\nfirst\nSection 2 Terms\nsecond\n3.1 Scope\nthird\n12 apples were\nArticle IV\nlast"
    pieces = chunks_over()(text, headings=True, chars=1000)
    assert [str(piece).split("\n")[0] for piece in pieces] == [
        "Preamble", "# One", "Section 2 Terms", "3.1 Scope", "Article IV",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"chars": 0}, "chunks of 0 characters hold nothing"),
        ({"lines": -1}, "chunks of -1 lines hold nothing"),
        ({"chars": 5, "overlap": 5}, "overlap=5 must be at least 0 and less than the 5"),
        ({"chars": 5, "overlap": -1}, "overlap=-1 must be"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be(size: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chunks_over(TEXT)(**size)


def test_two_sizes_are_refused() -> None:
    with pytest.raises(TypeError, match="one of chars=, tokens= and lines="):
        chunks_over(TEXT)(chars=10, lines=2)
    with pytest.raises(TypeError, match="takes a text, a document or a list of them, not int"):
        chunks_over(TEXT)(3)
