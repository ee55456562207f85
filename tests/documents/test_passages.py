import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_local.documents.passages import QUOTE_CHARS, passage_around, passages

PROSE = (
    "The first sentence is here. The second one is\nwrapped over two lines. See e.g. the third, v. Smith, No. 5 of it."
)


def quoted(text: str, part: str) -> str:
    start = text.index(part)
    begin, end = passage_around(text, start, start + len(part))
    return text[begin:end]


@pytest.mark.parametrize(
    ("text", "part", "quote"),
    [
        (PROSE, "second", "The second one is\nwrapped over two lines."),
        (PROSE, "Smith", "See e.g. the third, v. Smith, No. 5 of it."),  # abbreviations end no sentence
        (PROSE, "here. The", "The first sentence is here. The second one is\nwrapped over two lines."),
        ("name: Ada\ncity: Rome\nyear: 1843\n", "Rome", "city: Rome"),  # short lines are entries
        ("TITLE OF IT\n\nThe text goes on", "TITLE", "TITLE OF IT"),
        ("(a) first thing;\n(b) second thing; and\n", "second", "(b) second thing; and"),
        ("  padded  ", "padded", "padded"),
    ],
)
def test_a_quote_is_the_whole_sentence_or_entry(text: str, part: str, quote: str) -> None:
    assert quoted(text, part) == quote


def test_a_record_on_a_line_of_its_own_is_quoted_alone() -> None:
    records = [f"Date: 2024-01-{day:02} || User: {1000 + day} || Instance: {'what is it ' * 8}" for day in range(1, 29)]
    assert quoted("\n".join(records), "User: 1014") == records[13].strip()


def test_a_sentence_that_is_too_long_is_cut_between_words_around_the_hit() -> None:
    text = "word " * 500 + "needle " + "word " * 500
    quote = quoted(text, "needle")
    assert QUOTE_CHARS - 12 <= len(quote) <= QUOTE_CHARS
    assert set(quote.split()) == {"word", "needle"}


def test_text_without_any_space_is_cut_at_the_limit() -> None:
    begin, end = passage_around("x" * 5000, 2000, 2010)
    assert begin <= 2000
    assert end >= 2010
    assert end - begin <= QUOTE_CHARS


@given(st.text(alphabet="aA1 .\n-|", max_size=900), st.data())
def test_passages_are_short_in_order_apart_and_cover_every_visible_character(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    found = passages(text, start, end)
    assert all(0 < right - left <= QUOTE_CHARS for left, right in found)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(found))
    covered = {at for left, right in found for at in range(left, right)}
    assert all(at in covered for at in range(start, end) if not text[at].isspace())


@given(st.text(alphabet="aA1 .\n-|", min_size=1, max_size=900), st.data())
def test_the_passage_around_a_part_contains_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, min(len(text), start + QUOTE_CHARS)))
    begin, stop = passage_around(text, start, end)
    assert stop - begin <= QUOTE_CHARS
    visible = [at for at in range(start, end) if not text[at].isspace()]
    assert all(begin <= at < stop for at in visible)
