"""A count over every line of a long document is exact: no line is lost, none counted twice."""

from __future__ import annotations

import pytest

from bench.counts import count

pytestmark = pytest.mark.jail


def silent(line: str) -> None:
    pass


async def test_counts_at_131072_tokens_are_exact(nsjail: None) -> None:
    found = await count(131_072, say=silent)
    assert found.lines > 2_500
    assert found.asked == found.lines
    assert found.counted == found.gold
    assert found.score == 1.0


async def test_one_line_in_ten_labelled_wrong_is_seen_in_the_counts(nsjail: None) -> None:
    found = await count(16_384, accuracy=0.9, say=silent)
    assert found.asked == found.lines == sum(found.counted.values())
    assert 0 < sum(abs(found.counted[label] - found.gold[label]) for label in found.gold) < found.lines / 4
    assert found.score < 1.0
