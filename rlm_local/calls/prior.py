"""From the model's log-probabilities of labels to the chance that each is right.

Without examples a model's preference is one number a label: its mean log-probability over the items, in which each
label counts as one, however many items have it; of few items, held by texts that say nothing. With many items the
log-probabilities are taken for what they look like, a cloud of points around one centre a label (a mixture of normal
distributions with one spread for all), and the chance is that of the cloud. With examples a preference
is what makes their own labels likeliest, where each was scored without itself among the examples before it.
Sources: contextual calibration, arXiv 2102.09690; batch calibration, arXiv 2309.17249; prototypical calibration,
arXiv 2205.10183.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Scores: TypeAlias = "tuple[float, ...]"  # of one item: the log-probability of each label

HELD_ITEMS = 10.0  # how many items weigh as much as what is known before any is seen
HALF = 0.5  # how much of what a model says to silence it says to a text too
CLOUD_ITEMS = 25  # for each label: from there on the items show their clouds
CLOUD_LABELS = 24  # above it the clouds of 500 items are too thin, and take too long
_ROUNDS = 30
_STEPS, _STRIDE = 300, 0.5
_TIGHTNESS = 0.3  # one over the variance that a preference has before any example is seen
_SPREAD = 0.1  # added to the variance of a cloud, in log-probability squared; with 0.5 two close clouds become one
_SHARE = 2.0  # items that each cloud has before any is seen


@dataclass(frozen=True, slots=True)
class Prior:
    """What a model prefers among some labels, and how to take it out."""

    bias: Scores  # added to the log-probabilities
    centres: tuple[Scores, ...] = ()  # of the clouds, one a label; empty where there are too few items
    spread: Scores = ()  # their variance in each direction
    shares: Scores = ()  # logarithms

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
        labels = len((rows or nothing or [()])[0])
        bias = _bias(rows, nothing, labels)
        if len(rows) < CLOUD_ITEMS * labels or labels > CLOUD_LABELS:
            return cls(bias)
        return _clouds(rows, bias)

    def posterior(self, scores: Scores) -> Scores:
        """Return the chance of each label; they sum to 1."""
        if not self.centres:
            return _chances([score + bias for score, bias in zip(normalised(scores), self.bias, strict=True)])
        point = _centred(normalised(scores))
        return _chances([self._density(point, at) for at in range(len(self.centres))])

    def _density(self, point: Scores, at: int) -> float:
        far = sum((x - m) ** 2 / v for x, m, v in zip(point, self.centres[at], self.spread, strict=True))
        return self.shares[at] - far / 2


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


def _clouds(rows: Sequence[Scores], bias: Scores) -> Prior:
    """Return centres, spread and shares by expectation and maximisation, begun where the bias puts each item."""
    labels, count = len(bias), len(rows)
    points = [_centred(row) for row in rows]
    chances = [_chances([x + b for x, b in zip(row, bias, strict=True)]) for row in rows]
    found = Prior(bias)
    for _ in range(_ROUNDS):
        weights = [sum(row[at] for row in chances) + 1e-6 for at in range(labels)]
        centres = tuple(
            tuple(sum(row[at] * point[to] for row, point in zip(chances, points, strict=True)) / weights[at]
                  for to in range(labels))
            for at in range(labels)
        )  # fmt: skip
        spread = tuple(
            _SPREAD + sum(row[at] * (point[to] - centres[at][to]) ** 2
                          for row, point in zip(chances, points, strict=True) for at in range(labels)) / count
            for to in range(labels)
        )  # fmt: skip
        total = count + _SHARE * labels
        found = Prior(bias, centres, spread, tuple(math.log((weight + _SHARE) / total) for weight in weights))
        chances = [found.posterior(row) for row in rows]
    return found


def _centred(row: Scores) -> Scores:
    mean = sum(row) / len(row)
    return tuple(x - mean for x in row)


def _chances(logs: Sequence[float]) -> Scores:
    return tuple(math.exp(one) for one in normalised(logs))


def _mean(rows: Sequence[Scores]) -> Scores:
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
