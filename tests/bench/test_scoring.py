"""Each scorer on answers that are easily judged wrong."""

from __future__ import annotations

import pytest

from bench.tasks import scoring
from bench.tasks.scoring import AnswerType, oolong
from rlm_local.types import JsonValue

LABEL, NUMERIC, DATE = AnswerType.LABEL, AnswerType.NUMERIC, AnswerType.DATE
COMPARISON, MONTH = AnswerType.COMPARISON, AnswerType.MONTH_YEAR


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "points"),
    [
        (LABEL, "location", "location", 1.0),
        (LABEL, "location", "Label: location", 1.0),
        (LABEL, "location", "Label: **location**", 1.0),
        (LABEL, "location", "Label: [location]", 1.0),
        (LABEL, "location", ["location"], 1.0),
        (LABEL, "location", "I counted them: Label: location", 1.0),  # after the last colon
        (LABEL, "location", "The most common kind is location", 1.0),  # no colon, long: the last word
        (LABEL, "location", "The most common kind is location.", 0.0),  # upstream keeps the full stop
        (LABEL, "location", "Location", 0.0),  # upstream's rule knows case
        (LABEL, "location", "Label: location, I think", 0.0),
        (LABEL, "description and abstract concept", "description and abstract concept", 1.0),  # our one addition
        (LABEL, "description and abstract concept", "It is description and abstract concept", 0.0),  # last word
        (LABEL, "description and abstract concept", "Label: description and abstract concept", 1.0),
        (COMPARISON, "more common than", "Answer: more common than", 1.0),
        (COMPARISON, "more common than", "Answer: 'spam' is more common than 'ham'", 1.0),
        (COMPARISON, "more common than", "more common", 1.0),
        (COMPARISON, "more common than", "less common than", 0.0),
        (COMPARISON, "same frequency as", "Answer: they have the same frequency", 1.0),
        (COMPARISON, "more common than", "spam is more common than ham", 0.0),  # no colon, long: the last word
        (NUMERIC, 12, 12, 1.0),
        (NUMERIC, 12, "12", 1.0),
        (NUMERIC, 12, "Answer: 12", 1.0),
        (NUMERIC, 12, "Answer: 13", 0.75),
        (NUMERIC, 12, "Answer: 10", 0.5625),
        (NUMERIC, 12, "Answer: [12]", 1.0),
        (NUMERIC, 12, "Answer: twelve", 0.0),
        (NUMERIC, 12, "Answer: 12.0", 0.0),
        (NUMERIC, 12, "Answer: 12 lines", 0.0),
        (NUMERIC, 0, "Answer: 0", 1.0),
        (NUMERIC, 12, "", 0.0),
        (DATE, "2024-05-31", "Date: May 31, 2024", 1.0),
        (DATE, "2024-05-31", "2024-05-31", 1.0),
        (DATE, "2024-05-31", "Date: Jun 01, 2024", 0.0),
        (MONTH, "March 2023", "Answer: March 2023", 1.0),
        (MONTH, "March 2023", "Answer: Mar 2023", 0.0),
        (AnswerType.USER, "10432", 10432, 1.0),
        (AnswerType.USER, "10432", "User: 10432", 1.0),
        (AnswerType.USER, "10432", "User: 10433", 0.0),
    ],
)
def test_oolong_is_the_official_rule(kind: AnswerType, gold: JsonValue, answer: JsonValue, points: float) -> None:
    assert oolong(answer, gold, kind=kind) == points


@pytest.mark.parametrize(
    ("answer", "gold", "points"),
    [
        ("(1, 2)\n(3, 4)", [[1, 2], [3, 4]], 1.0),
        ([[2, 1], [4, 3]], [[1, 2], [3, 4]], 1.0),  # the order within a pair does not matter
        ("[(1, 2), (1, 2), (3, 4)]", [[1, 2], [3, 4]], 1.0),  # nor do doubles
        ("(1,2)", [[1, 2], [3, 4]], 2 / 3),
        ("(1, 2) (5, 6)", [[1, 2]], 2 / 3),
        ("1, 2", [[1, 2]], 0.0),
        ("none", [], 1.0),
        ("(1, 2)", [], 0.0),
        ("", [[1, 2]], 0.0),
    ],
)
def test_pairs_are_scored_as_sets(answer: JsonValue, gold: JsonValue, points: float) -> None:
    assert scoring.pairs_f1(answer, gold) == pytest.approx(points)


@pytest.mark.parametrize(
    ("answer", "gold", "points"),
    [
        (7, 7, 1.0),
        ("7", 7, 1.0),
        ("There are 7 of them.", 7, 1.0),
        ("Of 20 contracts, 7 have it.", 7, 1.0),  # the last number
        ("Answer: 7 of 20", 7, 1.0),  # the first one after the colon
        ("1,007", 1007, 1.0),
        (9, 7, 0.5625),
        ("no number", 7, 0.0),
        ("C1234", 1234, 0.0),  # part of a name
        ("", 0, 0.0),
    ],
)
def test_counts_decay_by_their_distance(answer: JsonValue, gold: JsonValue, points: float) -> None:
    assert scoring.count(answer, gold) == points


@pytest.mark.parametrize(
    ("answer", "points"),
    [(100, 1.0), ("100.9 mg/dL", 1.0), ("The value is 99", 1.0), ("98.9", 0.0), ("101.1", 0.0), ("", 0.0)],
)
def test_a_measured_value_may_be_one_percent_off(answer: JsonValue, points: float) -> None:
    assert scoring.close(answer, 100.0) == points


@pytest.mark.parametrize(
    ("answer", "gold", "points"),
    [
        ("New York", "New York", 1.0),
        ("the new york.", "New York", 1.0),
        ("State of New York", "New York", 0.0),
        ("", "New York", 0.0),
        ("Delaware", ["Nevada", "Delaware"], 1.0),
    ],
)
def test_exact_forgives_case_articles_and_punctuation(answer: JsonValue, gold: JsonValue, points: float) -> None:
    assert scoring.exact(answer, gold) == points


@pytest.mark.parametrize(
    ("answer", "gold", "points"),
    [
        ("2000", "2000", 1.0),
        (2000, "2000", 1.0),
        ("2_000", "2000", 1.0),
        ("strict", "'strict'", 1.0),
        ('"strict"', "'strict'", 1.0),
        ("`'strict'`", "'strict'", 1.0),
        ("2000.0", "2000", 0.0),
        ("1", "True", 0.0),
        ("True", "True", 1.0),
        ("from_bytes", "from_bytes", 1.0),
        ("Message.from_bytes", "from_bytes", 0.0),
        ("", "''", 1.0),
    ],
)
def test_literals_are_compared_as_python_reads_them(answer: JsonValue, gold: JsonValue, points: float) -> None:
    assert scoring.literal(answer, gold) == points


@pytest.mark.parametrize(
    ("answer", "gold", "points"),
    [
        ("a spirit", "A Spirit.", 1.0),
        ("an evil spirit", "a spirit", 2 / 3),
        ("yes", "yes", 1.0),
        ("yes, they are", "yes", 0.0),  # SQuAD's rule: yes and no alone
        ("no", "yes", 0.0),
        ("", "spirit", 0.0),
        ("water", "spirit", 0.0),
    ],
)
def test_token_f1_is_squads(answer: str, gold: str, points: float) -> None:
    assert scoring.token_f1(answer, gold) == pytest.approx(points)


@pytest.mark.parametrize(
    ("answer", "points"),
    [
        ("B", 1.0),
        ("B)", 1.0),
        ("(B) lib/b.py", 1.0),
        ("**B**", 1.0),
        ("The answer is B.", 1.0),
        ("Answer: B", 1.0),
        ("A", 0.0),
        ("Both", 0.0),
        ("Because of A", 0.0),
        ("b", 0.0),
        ("", 0.0),
    ],
)
def test_a_choice_is_a_letter(answer: str, points: float) -> None:
    assert scoring.choice(answer, "B") == points


@pytest.mark.parametrize(
    ("answer", "gold", "points"),
    [
        ("yes", "yes", 1.0),
        ("Yes.", "yes", 1.0),
        ("Yes, it has one", "yes", 1.0),
        ("Answer: yes", "yes", 1.0),
        ("no", "yes", 0.0),
        ("yesterday", "yes", 0.0),
        ("It says yes", "yes", 0.0),
        ("maybe", "maybe", 1.0),
        ("", "no", 0.0),
    ],
)
def test_yes_no_and_maybe_come_first(answer: str, gold: str, points: float) -> None:
    assert scoring.word(answer, gold) == points


@pytest.mark.parametrize(
    ("answer", "points"),
    [
        ("2012-03-04", 1.0),
        ("March 4, 2012", 1.0),
        ("03/04/2012", 1.0),  # month first
        ("Answer: 2012-03-04.", 1.0),
        ("2012-04-03", 0.0),
        ("in 2012", 0.0),
        ("", 0.0),
    ],
)
def test_a_day_is_read_in_its_usual_forms(answer: str, points: float) -> None:
    assert scoring.day(answer, "2012-03-04") == points


@pytest.mark.parametrize(
    ("answer", "gold", "points"),
    [
        (["Beta", "Alpha"], ["alpha", "beta"], 1.0),
        ("- Alpha\n- Beta", ["alpha", "beta"], 1.0),
        ("1. Alpha\n2. Beta", ["alpha", "beta"], 1.0),
        ("Alpha, Beta", ["alpha", "beta"], 1.0),
        ("['Alpha', 'Beta']", ["alpha", "beta"], 1.0),
        ("Alpha", ["alpha", "beta"], 2 / 3),
        ("Alpha, Alpha", ["alpha", "beta"], 2 / 3),
        ("none", [], 1.0),
        ([], [], 1.0),
        ([], ["alpha"], 0.0),
    ],
)
def test_lists_are_scored_as_sets(answer: JsonValue, gold: JsonValue, points: float) -> None:
    assert scoring.set_f1(answer, gold) == pytest.approx(points)


@pytest.mark.parametrize(
    ("answer", "points"),
    [
        (["Licensee shall keep accurate books and records."], 1.0),
        ("Licensee shall keep accurate books and records.", 1.0),
        ("Licensee shall keep accurate books", 1.0),  # five of seven words
        ("Licensee shall", 0.0),  # two of seven
        (["Licensee shall keep accurate books and records.", "Something else entirely different."], 2 / 3),
        ("", 0.0),
    ],
)
def test_a_passage_is_found_by_half_of_its_words(answer: JsonValue, points: float) -> None:
    gold: JsonValue = ["Licensee shall keep accurate books and records."]
    assert scoring.passages_f1(answer, gold) == pytest.approx(points)


@pytest.mark.parametrize(
    ("answer", "gold", "points"),
    [
        ("not in the documents", scoring.ABSENT, 1.0),
        ("It is not in the documents.", scoring.ABSENT, 1.0),
        ("None", scoring.ABSENT, 1.0),
        ("1234567", scoring.ABSENT, 0.0),
        ("", scoring.ABSENT, 0.0),
        ("1234567", "1234567", 1.0),
        ("not in the documents", "1234567", 0.0),
        ("1234567, or it is not in the documents", "1234567", 0.0),  # both at once is no answer
    ],
)
def test_that_something_is_absent_has_to_be_said(answer: str, gold: str, points: float) -> None:
    assert scoring.absent(answer, gold) == points
