"""What the words of a text say of its label, learned from the labels that a model gives to the texts of one call.

A model that errs on one text mostly does not on those that share words with it, so their labels correct each other:
naive Bayes over words and pairs of neighbours, where a text is judged without what it added itself. How much the words
count is no setting: as much as foretells best what the model says of a text from what it says of the others, which is
nothing where words tell nothing. No label but the examples' is needed, and no further request.
Sources: Nigam et al. 2000 (naive Bayes learned from texts without labels); Wolpert 1992 (stacked generalisation).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rlm_local.calls.prior import Scores, normalised

READ_CHARS = 1_000  # of a text; what it is about is said by then
_HELD = 1.0  # occurrences of a word, spread evenly, that each label has before any is seen
_HALVINGS = 20


@dataclass(frozen=True, slots=True)
class Words:
    """How often words stand in texts of each label."""

    counts: Mapping[str, Scores]  # of a word of two texts or more: the chances of each label, summed over these
    totals: Scores  # the same over all texts
    own: Mapping[str, Scores]  # what a text has added, by its beginning
    weight: float

    @classmethod
    def of(cls, chances_by_text: Mapping[str, Scores]) -> Words:
        """Learn from texts and the chance of each label of theirs; there is at least one."""
        own = {text[:READ_CHARS]: chances for text, chances in chances_by_text.items()}
        seen: dict[str, list[Scores]] = {}
        for text, chances in own.items():
            for word in _words(text):
                seen.setdefault(word, []).append(chances)
        counts = {word: _summed(rows) for word, rows in seen.items() if len(rows) > 1}
        found = cls(counts, _summed(list(own.values())), own, 1.0)
        return cls(found.counts, found.totals, own, found._weight_that_foretells())

    def after(self, text: str, chances: Scores) -> Scores:
        """Return the chances of a text's labels, by what a model says of it and by its words."""
        told = zip(chances, self._evidence(text), strict=True)
        return tuple(
            math.exp(one) for one in normalised([math.log(max(chance, 1e-12)) + self.weight * e for chance, e in told])
        )

    def _evidence(self, text: str) -> Scores:
        """Return for each label the logarithm of how much likelier the text's words are with it than by chance."""
        own = self.own.get(text[:READ_CHARS]) or (0.0,) * len(self.totals)
        totals = [total - chance for total, chance in zip(self.totals, own, strict=True)]
        texts = sum(totals) or 1.0
        found = [0.0] * len(totals)
        for word in _words(text):
            row = self.counts.get(word)
            if row is None:
                continue
            seen = [count - chance for count, chance in zip(row, own, strict=True)]
            by_chance = sum(seen) / texts
            for at, count in enumerate(seen):
                found[at] += math.log((max(count, 0.0) + _HELD) / (max(by_chance * totals[at], 0.0) + _HELD))
        return tuple(found)

    def _weight_that_foretells(self) -> float:
        """Return the weight, up to 1, by which the words of each text foretell its chances best."""
        shares = [math.log(total + 1.0) for total in self.totals]
        rows = [(chances, self._evidence(text)) for text, chances in self.own.items()]

        def slope(weight: float) -> float:
            total = 0.0
            for chances, evidence in rows:
                told = normalised([share + weight * e for share, e in zip(shares, evidence, strict=True)])
                total += sum((c - math.exp(t)) * e for c, t, e in zip(chances, told, evidence, strict=True))
            return total

        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):  # the slope only falls
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) > 0 else (low, middle)
        return low


def _summed(rows: Sequence[Scores]) -> Scores:
    return tuple(map(sum, zip(*rows, strict=True)))


def _words(text: str) -> frozenset[str]:
    words = ["", *re.findall(r"\w+", text[:READ_CHARS].lower())]
    return frozenset([*words[1:], *(" ".join(pair) for pair in pairwise(words))])
