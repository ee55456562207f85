"""From labelled rows to answers. Standard library only: the mechanics arm runs this very text in a jail.

A row is (day as "2024-05-31", user, label).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

Row = tuple[str, int, str]
Own = Sequence[tuple[str, str]]  # day and label of the rows of one user
Side = Sequence[tuple[str, str, int]]

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]

# OOLONG-Pairs, appendix D.1 of arXiv 2512.24601. Symmetric: both users have at least one row of one of two labels; then
# all rows of a third label of both must be after or before a day (none at all will do). Asymmetric: what the one user
# has and what the other has, each (label, at least or exactly, number).
D, E, H = "description and abstract concept", "entity", "human being"
N, L, A = "numeric value", "location", "abbreviation"
SYMMETRIC = [
    (N, L), (E, H), (D, A), (H, L, H, "after", "2023-01-06"), (E, N, E, "before", "2023-03-15"), (L, A),
    (D, N, N, "after", "2023-02-01"), (H, D), (E, L, L, "after", "2023-04-10"), (N, A, A, "before", "2023-05-20"),
]  # fmt: skip
LEAST, EXACTLY = "at least", "exactly"
ASYMMETRIC = [
    ([(E, LEAST, 1), (A, LEAST, 1)], [(E, EXACTLY, 1)]),
    ([(N, LEAST, 2)], [(L, LEAST, 1), (H, LEAST, 1)]),
    ([(D, EXACTLY, 1)], [(A, LEAST, 1), (E, LEAST, 1)]),
    ([(H, LEAST, 1), (N, LEAST, 1)], [(L, EXACTLY, 2)]),
    ([(E, LEAST, 1), (L, LEAST, 1), (A, LEAST, 1)], [(N, EXACTLY, 1)]),
    ([(D, LEAST, 1), (H, LEAST, 1)], [(E, LEAST, 2), (A, EXACTLY, 1)]),
    ([(N, EXACTLY, 1)], [(L, LEAST, 1), (D, LEAST, 1)]),
    ([(A, LEAST, 1), (H, EXACTLY, 1)], [(E, LEAST, 1), (N, LEAST, 1)]),
    ([(L, LEAST, 2), (E, LEAST, 1)], [(D, EXACTLY, 1), (A, EXACTLY, 1)]),
    ([(N, LEAST, 1), (H, LEAST, 1)], [(L, LEAST, 1), (E, LEAST, 1), (A, EXACTLY, 1)]),
]


def solve(
    rows: Sequence[Row],
    kind: str,
    a: str = "",
    b: str = "",
    users: Sequence[int] = (),
    month: int = 0,
    start: str = "",
    end: str = "",
) -> str | int | None:
    """Return the answer of a question; None where it has none, or more than one.

    users, month (1 to 12, of any year) and start to end (both included) choose rows; "" and 0 choose all.
    """
    if users:
        rows = [row for row in rows if row[1] in users]
    if month:
        rows = [row for row in rows if int(row[0][5:7]) == month]
    if start and kind != "before_after":
        rows = [row for row in rows if start <= row[0] <= end]
    labels = Counter(row[2] for row in rows)
    if kind == "most_common":
        return single(labels)
    if kind == "compare":
        return compared(labels[a], labels[b])
    if kind == "count":
        return labels[a]
    if kind == "top_user":
        return single(Counter(str(row[1]) for row in rows if a in ("", row[2])))
    if kind == "top_day":
        return single(Counter(row[0] for row in rows))
    if kind == "before_after":
        before = [row[2] == a for row in rows if row[0] < start]
        after = [row[2] == a for row in rows if row[0] > start]
        if not before or not after:
            return None
        return compared(sum(before) * len(after), sum(after) * len(before))  # shares, without rounding
    by_month: dict[str, Counter[str]] = {}
    for day, _, label in rows:
        by_month.setdefault(day[:7], Counter())[label] += 1
    months = sorted(by_month)
    if kind == "first_month":
        first = next((each for each in months if by_month[each][a] > by_month[each][b]), None)
        return first and f"{MONTHS[int(first[5:]) - 1]} {first[:4]}"
    if kind == "months_more":
        return sum(by_month[each][a] > by_month[each][b] for each in months)
    if kind == "months_top":
        return sum(single(by_month[each]) == a for each in months)
    raise ValueError(f"no kind of question is called {kind!r}")


def single(counts: Counter[str]) -> str | None:
    """Return what is counted most often; None when that are several, or none."""
    most = counts.most_common(2)
    return most[0][0] if most and (len(most) == 1 or most[0][1] > most[1][1]) else None


def compared(one: int, other: int) -> str:
    return "same frequency as" if one == other else "more common than" if one > other else "less common than"


def pairs_of(rows: Sequence[Row], query: int) -> list[list[int]]:
    """Return the pairs of users that answer a query, 1 to 20, the lower id first."""
    by_user: dict[int, list[tuple[str, str]]] = {}
    for day, user, label in rows:
        by_user.setdefault(user, []).append((day, label))
    if query <= len(SYMMETRIC):
        fit = sorted(user for user, own in by_user.items() if has_either(own, *SYMMETRIC[query - 1]))
        return [list(pair) for pair in combinations(fit, 2)]
    one, other = ASYMMETRIC[query - len(SYMMETRIC) - 1]
    is_one, is_other = ({user for user, own in by_user.items() if has_all(own, side)} for side in (one, other))
    found = {(min(x, y), max(x, y)) for x in is_one for y in is_other if x != y}
    return [list(pair) for pair in sorted(found)]


def has_either(own: Own, x: str, y: str, z: str = "", when: str = "", limit: str = "") -> bool:
    days = [day for day, label in own if label == z]
    fits = all(day > limit if when == "after" else day < limit for day in days)
    return fits and any(label in (x, y) for _, label in own)


def has_all(own: Own, side: Side) -> bool:
    counts = Counter(label for _, label in own)
    return all(counts[label] >= n if how == LEAST else counts[label] == n for label, how, n in side)
