import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_local.documents.corpus import join, joined_bytes, line_at, locate
from rlm_local.texts import HeldText, SealedText, Shelf
from rlm_local.types import Document
from tests.documents.conftest import sealed

DOCUMENTS = st.lists(st.builds(Document, name=st.text(max_size=5), text=st.text(max_size=20)), min_size=1, max_size=6)


def test_each_document_stands_under_a_header_line_with_its_number_and_name() -> None:
    corpus = join([Document("lease", "Rent.\n"), Document("deed", "Land.")])
    assert corpus.context == ("===== DOCUMENT 1 of 2: lease =====\nRent.\n\n===== DOCUMENT 2 of 2: deed =====\nLand.\n")


@given(DOCUMENTS)
def test_every_offset_of_a_text_is_located_in_its_own_document(documents: list[Document]) -> None:
    corpus = join(documents)
    for index, (start, document) in enumerate(zip(corpus.starts, documents, strict=True)):
        assert corpus.context[start : start + len(document.text)] == document.text
        for offset in range(len(document.text) + 1):
            assert locate(corpus, start + offset) == (index, offset)


@given(DOCUMENTS)
def test_every_offset_of_a_context_is_located_somewhere_and_never_backwards(documents: list[Document]) -> None:
    corpus = join(documents)
    places = [locate(corpus, offset) for offset in range(len(corpus.context) + 1)]
    assert places == sorted(places)
    assert all(0 <= at <= len(documents[index].text) for index, at in places)


def test_an_offset_on_a_header_belongs_to_the_document_that_it_announces() -> None:
    corpus = join([Document("lease", "Rent."), Document("deed", "Land.")])
    assert locate(corpus, 0) == (0, 0)
    assert locate(corpus, corpus.context.find("DOCUMENT 2")) == (1, 0)


@given(DOCUMENTS)
def test_a_sealed_context_is_the_same_and_holds_what_was_read_from_files(documents: list[Document]) -> None:
    corpus = sealed(documents)
    assert isinstance(corpus.context, SealedText)
    assert corpus == join(documents)
    assert [text.shelved_bytes for text in (one.text for one in corpus.documents) if isinstance(text, HeldText)] == [
        0 for _ in documents
    ]


def test_a_join_is_told_to_take_what_it_adds() -> None:
    text = "x" * 5_000_000
    Shelf().put(text, held := HeldText())
    assert joined_bytes([Document("a", text)]) - len(text) == joined_bytes([Document("a", held)])
    assert joined_bytes([Document("a", held)]) < 100
    assert joined_bytes([Document("€", held)]) > len(text)  # every character takes two bytes then


@pytest.mark.parametrize("offset", [-1, 10_000])
def test_an_offset_outside_of_the_context_is_refused_with_the_bound(offset: int) -> None:
    with pytest.raises(IndexError, match=rf"offset {offset} is outside 0\.\."):
        locate(join([Document("lease", "Rent.")]), offset)


@given(st.text(alphabet="a\n"), st.integers(0, 30))
def test_a_line_number_counts_the_newlines_before(text: str, offset: int) -> None:
    assert line_at(text, offset) == text[:offset].count("\n") + 1
