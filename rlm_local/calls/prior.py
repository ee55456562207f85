"""From the model's log-probabilities of labels to the chance that each is right.

What a model prefers whatever it reads is one number a label. With examples it is what makes their own labels likeliest,
where each was scored without itself among the examples before it. Without them it is the mean log-probability over the
items, in which each label counts as one, however many items have it; of few items, held by texts that say nothing.
Many items show more: their log-probabilities are clouds of points, one cloud a label, all of one shape (normal
distributions with one covariance). Where examples say which cloud is whose, the directions of a cloud are taken
together, so that what a model says of one label corrects what it says of another; else each for itself.
Sources: contextual calibration, arXiv 2102.09690; batch calibration, arXiv 2309.17249; prototypical calibration,
arXiv 2205.10183; linear discriminant analysis.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Scores: TypeAlias = "tuple[float, ...]"  # of one item: the log-probability of each label
Seen: TypeAlias = "tuple[Scores, Scores]"  # of one item: its scores, and the chance of each label

HELD_ITEMS = 10.0  # how many items weigh as much as what is known before any is seen
HALF = 0.5  # how much of what a model says to silence it says to a text too
CLOUD_ITEMS = 25  # for each label: from there on the items show their clouds
CLOUD_LABELS = 24  # above it the clouds of 500 items are too thin, and take too long
_ROUNDS = 30
_STEPS, _STRIDE = 300, 0.5
_TIGHTNESS = 0.3  # one over the variance that a preference has before any example is seen
_SPREAD = 0.1  # added to the variance of the clouds, in log-probability squared; with 0.5 two close ones become one
_SHARE = 2.0  # items that each cloud has before any is seen


@dataclass(frozen=True, slots=True)
class Prior:
    """Which chances a model's log-probabilities stand for: a linear function of them, and a softmax."""

    bias: Scores
    slopes: tuple[Scores, ...] = ()  # of each label on all; empty where it is on itself alone, and 1

    @classmethod
    def of_examples(cls, rows: Sequence[Scores], truth: Sequence[int], *, labels: int) -> Prior:
        """Learn from examples: rows[i] are the scores of one whose label is truth[i]. There may be none."""
        bias = [0.0] * labels
        if not rows or labels > CLOUD_LABELS:
            return cls(tuple(bias))
        points = [normalised(row) for row in rows]
        for _ in range(_STEPS):  # gradient ascent, on what is concave
            slope = [-one * _TIGHTNESS / len(points) for one in bias]
            for point, right in zip(points, truth, strict=True):
                chances = _chances([x + b for x, b in zip(point, bias, strict=True)])
                for at, chance in enumerate(chances):
                    slope[at] += ((at == right) - chance) / len(points)
            bias = [one + _STRIDE * up for one, up in zip(bias, slope, strict=True)]
        return cls(tuple(bias))

    @classmethod
    def fit(cls, items: Sequence[Scores], silent: Sequence[Scores]) -> Prior:
        """Learn from the scores of items without examples, and of texts that say nothing; of either may be none."""
        rows = [normalised(row) for row in items]
        nothing = [normalised(row) for row in silent]
        start = cls(_bias(rows, nothing, len((rows or nothing or [()])[0])))
        if not shows_clouds(len(rows), len(start.bias)):
            return start
        found = start
        chances = [_chances([x + b for x, b in zip(row, start.bias, strict=True)]) for row in rows]
        for _ in range(_ROUNDS):
            found = cls.of_clouds(list(zip(rows, chances, strict=True)))
            chances = [found.posterior(row) for row in rows]
        return found

    @classmethod
    def of_clouds(cls, items: Sequence[Seen], known: Sequence[Seen] = ()) -> Prior:
        """Learn from items with the chances that their labels have so far, and from `known` ones, whose labels are.

        Of the known only the scores count, not how many have which label.
        """
        seen = [(_centred(normalised(scores)), chances) for scores, chances in (*items, *known)]
        labels = range(len(seen[0][0]))
        weights = [sum(chances[at] for _, chances in seen) + 1e-6 for at in labels]
        centres = [[sum(chances[at] * x[to] for x, chances in seen) / weights[at] for to in labels] for at in labels]

        def within(i: int, j: int) -> float:
            """What there is, less what is between the centres."""
            if i != j and not known:
                return 0.0
            between = sum(weight * m[i] * m[j] for weight, m in zip(weights, centres, strict=True))
            return (sum(x[i] * x[j] for x, _ in seen) - between) / len(seen) + _SPREAD * (i == j)

        inner = [[within(i, j) for j in labels] for i in labels]
        slopes = _solved(inner, centres)
        shares = [sum(chances[at] for _, chances in items) + _SHARE for at in labels]
        bias = [math.log(shares[at]) - sum(map(operator.mul, slopes[at], centres[at])) / 2 for at in labels]
        return cls(tuple(bias), tuple(slopes))

    def posterior(self, scores: Scores) -> Scores:
        """Return the chance of each label; they sum to 1."""
        point = _centred(normalised(scores))
        if self.slopes:
            point = tuple(sum(map(operator.mul, slope, point)) for slope in self.slopes)
        return _chances([x + bias for x, bias in zip(point, self.bias, strict=True)])


def shows_clouds(items: int, labels: int) -> bool:
    """Return whether so many items are enough to see the clouds of so many labels."""
    return labels <= CLOUD_LABELS and items >= CLOUD_ITEMS * labels


def normalised(scores: Sequence[float]) -> Scores:
    """Return log-probabilities whose probabilities sum to 1."""
    best = max(scores, default=0.0)
    total = best + math.log(sum(math.exp(score - best) for score in scores) or 1.0)
    return tuple(score - total for score in scores)


def _bias(rows: Sequence[Scores], silent: Sequence[Scores], labels: int) -> Scores:
    held = tuple(HALF * one for one in _mean(silent)) if silent else (0.0,) * labels
    weight = HELD_ITEMS if silent else 0.0
    if not rows:
        return tuple(-one for one in held)
    mean = _mean(rows)
    for _ in range(_ROUNDS):
        groups: dict[int, list[Scores]] = {}
        for row in rows:
            shifted = [x - m for x, m in zip(row, mean, strict=True)]
            groups.setdefault(max(range(labels), key=shifted.__getitem__), []).append(row)
        moved = _mean([_mean(group) for group in groups.values()])
        if moved == mean:
            break
        mean = moved
    count = len(rows)
    return tuple(-(count * m + weight * h) / (count + weight) for m, h in zip(mean, held, strict=True))


def _solved(matrix: list[list[float]], rows: Sequence[Sequence[float]]) -> list[Scores]:
    """Return x with matrix x = row, for each row. matrix: symmetric, and positive definite, so that no pivot is 0."""
    size = len(matrix)
    work = [[*line, *(row[at] for row in rows)] for at, line in enumerate(matrix)]
    for at in range(size):
        work[at] = [x / work[at][at] for x in work[at]]
        for other in range(size):
            if other != at and (factor := work[other][at]):
                work[other] = [x - factor * y for x, y in zip(work[other], work[at], strict=True)]
    return [tuple(work[at][size + number] for at in range(size)) for number in range(len(rows))]


def _centred(row: Scores) -> Scores:
    mean = sum(row) / len(row)
    return tuple(x - mean for x in row)


def _chances(logs: Sequence[float]) -> Scores:
    return tuple(math.exp(one) for one in normalised(logs))


def _mean(rows: Sequence[Scores]) -> Scores:
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
