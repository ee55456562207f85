"""Questions over labelled rows, on rows that are few enough to count by hand."""

from __future__ import annotations

import pytest

from bench.tasks.aggregate import A, D, E, H, L, N, Row, pairs_of, solve
from bench.tasks.pairs import QUERIES, predicate

ROWS: list[Row] = [
    ("2023-01-10", 11111, "spam"),
    ("2023-01-20", 11111, "ham"),
    ("2023-01-20", 22222, "ham"),
    ("2023-03-05", 22222, "spam"),
    ("2023-03-06", 22222, "spam"),
    ("2024-01-01", 33333, "ham"),
    ("2024-01-02", 22222, "ham"),
    ("2024-01-02", 22222, "ham"),
    ("2024-01-02", 11111, "ham"),
]


@pytest.mark.parametrize(
    ("kind", "args", "answer"),
    [
        ("most_common", {}, "ham"),
        ("most_common", {"month": 3}, "spam"),
        ("most_common", {"start": "2023-01-10", "end": "2023-03-05"}, None),  # two of each
        ("compare", {"a": "spam", "b": "ham"}, "less common than"),
        ("compare", {"a": "spam", "b": "ham", "month": 3}, "more common than"),
        ("compare", {"a": "spam", "b": "ham", "month": 7}, "same frequency as"),
        ("count", {"a": "ham"}, 6),
        ("count", {"a": "ham", "month": 1}, 6),  # of whatever year
        ("count", {"a": "ham", "users": [11111, 33333]}, 3),
        ("count", {"a": "spam", "start": "2023-01-10", "end": "2023-03-05"}, 2),  # both ends included
        ("top_user", {}, "22222"),
        ("top_user", {"a": "spam"}, "22222"),
        ("top_user", {"a": "eggs"}, None),
        ("top_day", {}, "2024-01-02"),
        (
            "before_after",
            {"a": "spam", "start": "2023-03-05"},
            "more common than",
        ),  # 1 of 3 is more than 1 of 5: shares, not counts
        ("before_after", {"a": "spam", "start": "2023-03-06"}, "more common than"),  # 2 of 4, and none of 4
        ("before_after", {"a": "spam", "start": "2024-01-02"}, None),  # nothing after it
        ("first_month", {"a": "spam", "b": "ham"}, "March 2023"),
        ("first_month", {"a": "ham", "b": "spam"}, "January 2023"),
        ("first_month", {"a": "eggs", "b": "ham"}, None),
        ("months_more", {"a": "ham", "b": "spam"}, 2),
        ("months_top", {"a": "spam"}, 1),
        ("months_top", {"a": "eggs"}, 0),
    ],
)
def test_an_answer_is_what_can_be_counted(kind: str, args: dict[str, object], answer: str | int | None) -> None:
    assert solve(ROWS, kind, **args) == answer


PAIRS: list[Row] = [
    ("2023-01-05", 1, H),  # before query 4's day
    ("2023-01-05", 1, N),
    ("2023-02-01", 2, H),
    ("2023-02-02", 2, L),
    ("2023-02-03", 3, L),
    ("2023-02-03", 3, E),
    ("2023-02-04", 4, E),
    ("2023-02-04", 4, E),
    ("2023-02-04", 4, A),
    ("2023-02-04", 5, D),
]


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        (1, [[1, 2], [1, 3], [2, 3]]),  # a number or a place
        (2, [[1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]]),  # an entity or a person
        (4, [[2, 3]]),  # 1 has a person too early; 3 has none at all, which will do
        (11, [[3, 4]]),  # 4 has entity and abbreviation, 3 exactly one entity
        (13, [[4, 5]]),
        (16, []),
    ],
)
def test_pairs_are_those_of_the_predicate(query: int, pairs: list[list[int]]) -> None:
    assert pairs_of(PAIRS, query) == pairs


def test_every_predicate_is_told_with_all_that_it_asks() -> None:
    told = [predicate(query) for query in range(1, QUERIES + 1)]
    assert len(set(told)) == QUERIES == 20
    assert told[3] == (
        "both users have at least one line of the kind 'human being' or 'location', and all lines of the kind "
        "'human being' of both users are after 2023-01-06 (they may have none)"
    )
    assert told[15] == (
        "one user has at least 1 line of the kind 'description and abstract concept' and at least 1 line of the kind "
        "'human being', and the other user has at least 2 lines of the kind 'entity' and exactly 1 line of the kind "
        "'abbreviation'"
    )
