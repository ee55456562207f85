import pytest

from rlm_local.documents.words import content_words, value_pattern
from rlm_local.types import JsonValue


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("30 days", "within 30\n   Days of notice", "30\n   Days"),
        (30, "within thirty days", "thirty"),
        ("30", "within (30) days", "30"),
        (30.0, "after 30.", "30"),
        (1250000, "a fee of $1,250,000 is due", "1,250,000"),
        ("1,250,000", "a fee of 1250000", "1250000"),
        ("the lessee's duty", "The lessee’s duty", "The lessee’s duty"),
        ('"San José".', "in San José", "San José"),
        ("契約", "この契約書は", "契約"),  # no spaces between words
        (-4, "at -4 degrees", "-4"),
        (2.5, "a rate of 2.5 %", "2.5"),
    ],
)
def test_a_value_is_found_however_it_is_written(value: JsonValue, text: str, found: str) -> None:
    pattern = value_pattern(value)
    assert pattern is not None
    match = pattern.search(text)
    assert match is not None
    assert match[0] == found


@pytest.mark.parametrize(
    ("value", "text"),
    [(30, "130"), (30, "30.5"), (30, "1,30"), (30, "30,000"), ("act", "the contract"), ("2", "2024"), (2.5, "12.5")],
)
def test_a_value_inside_of_a_longer_word_or_number_is_not_it(value: JsonValue, text: str) -> None:
    pattern = value_pattern(value)
    assert pattern is not None
    assert not pattern.search(text)


@pytest.mark.parametrize("value", [None, True, "Yes", "no.", "not found", "", "...", [1], {"a": 1}, "word " * 100])
def test_a_value_that_no_passage_would_contain_has_no_pattern(value: JsonValue) -> None:
    assert value_pattern(value) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The licences", "licensed"),
        ("terminates", "Termination"),
        ("changed", "changes"),
        ("notice", "NOTICES"),
        ("thirty", "30"),
        ("copy", "copies"),
        ("1,250", "1250"),
    ],
)
def test_forms_of_a_word_are_one_word(one: str, other: str) -> None:
    assert content_words(one) == content_words(other) != frozenset()


def test_words_that_stand_in_every_text_are_left_out() -> None:
    assert content_words("What does the document say about it?") == frozenset()
