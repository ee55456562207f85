"""Two runs over the same tasks: how far apart they are, and whether that can be chance."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

RESAMPLES = 10_000
CONFIDENCE = 0.95
EXACT_UP_TO = 25  # pairs that differ; above, the normal approximation of Wilcoxon's test


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second run against the first, on the tasks that both have."""

    tasks: int
    first: float  # mean score
    second: float
    low: float  # of the difference second - first, at 95 %
    high: float
    better: int  # tasks on which the second has more points
    worse: int
    test: str  # McNemar, for scores of 0 and 1 only; else Wilcoxon
    p: float  # two-sided

    @property
    def difference(self) -> float:
        return self.second - self.first


def compare(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Comparison:
    """Compare scores of the same tasks in the same order. Raises ValueError when there are none, or not as many."""
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} scores cannot be paired with {len(second)}")
    differences = [late - early for early, late in zip(first, second, strict=True)]
    low, high = bootstrap(differences, seed)
    is_binary = {*first, *second} <= {0.0, 1.0}
    return Comparison(
        tasks=len(first),
        first=sum(first) / len(first),
        second=sum(second) / len(second),
        low=low,
        high=high,
        better=sum(each > 0 for each in differences),
        worse=sum(each < 0 for each in differences),
        test="McNemar, exact" if is_binary else "Wilcoxon, signed ranks",
        p=mcnemar(differences) if is_binary else wilcoxon(differences),
    )


def bootstrap(differences: Sequence[float], seed: int) -> tuple[float, float]:
    """Return the middle 95 % of the mean difference over 10,000 draws of as many tasks, with replacement."""
    draw = random.Random(f"bootstrap {seed}")
    count = len(differences)
    means = sorted(sum(draw.choices(differences, k=count)) / count for _ in range(RESAMPLES))
    beyond = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return means[beyond], means[RESAMPLES - 1 - beyond]


def mcnemar(differences: Sequence[float]) -> float:
    """Return the exact two-sided p: the tasks on which they differ would be a coin's throws."""
    better, worse = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    total = better + worse
    tail: float = sum(math.comb(total, each) for each in range(min(better, worse) + 1)) / 2**total
    return min(1.0, 2 * tail)


def wilcoxon(differences: Sequence[float]) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test; ties share their ranks, equal pairs are left out."""
    apart = sorted((each for each in differences if each), key=abs)
    if not apart:
        return 1.0
    ranks = _shared_ranks([abs(each) for each in apart])
    above = sum(rank for rank, each in zip(ranks, apart, strict=True) if each > 0)
    smaller = min(above, sum(ranks) - above)
    if len(apart) <= EXACT_UP_TO:
        return min(1.0, 2 * _share_at_most(ranks, smaller))
    mean, variance = sum(ranks) / 2, sum(rank * rank for rank in ranks) / 4
    return min(1.0, 2 * NormalDist().cdf((smaller + 0.5 - mean) / math.sqrt(variance)))


def _shared_ranks(ordered: Sequence[float]) -> list[float]:
    ranks: list[float] = []
    at = 0
    while at < len(ordered):
        end = at
        while end < len(ordered) and math.isclose(ordered[end], ordered[at], rel_tol=1e-9):
            end += 1
        ranks += [(at + 1 + end) / 2] * (end - at)
        at = end
    return ranks


def _share_at_most(ranks: Sequence[float], bound: float) -> float:
    """Return the share of all choices of signs whose positive ranks sum to at most the bound. Ranks may be halves."""
    ways = {0: 1}
    for rank in ranks:
        doubled = round(2 * rank)
        more = dict(ways)
        for total, number in ways.items():
            more[total + doubled] = more.get(total + doubled, 0) + number
        ways = more
    fitting: float = sum(number for total, number in ways.items() if total <= 2 * bound + 1e-9)
    return fitting / 2.0 ** len(ranks)
