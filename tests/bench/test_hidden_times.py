"""`python -m bench hidden`: what it calls the same, and that a leak shows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.hidden import BOUND_US, LEAKY, Difference, HiddenResult, Pair, Verdict, difference, pairs


def rounds(count: int, seed: int, *, longer_us: float = 0.0) -> list[float]:
    """Return medians of rounds on a machine that has a bad moment now and then."""
    dice = random.Random(seed)
    return [800 + longer_us + dice.gauss(0, 20) + (dice.random() < 0.1) * dice.expovariate(1e-3) for _ in range(count)]


@pytest.mark.parametrize(
    ("count", "longer_us", "verdict"),
    [
        (400, 0.0, Verdict.SAME),
        (400, 30.0, Verdict.APART),  # what a file costs that is opened and read
        (400, -30.0, Verdict.APART),
        (20, 0.0, Verdict.UNDECIDED),
    ],
)
def test_an_interval_tells_the_same_from_apart_and_from_too_few_rounds(
    count: int, longer_us: float, verdict: Verdict
) -> None:
    found = difference(rounds(count, 1, longer_us=longer_us), rounds(count, 2))
    assert found.verdict is verdict, found
    assert found.low_us <= found.median_us <= found.high_us


def test_an_interval_misses_the_truth_no_more_often_than_it_says() -> None:
    missed = 0
    for seed in range(1_000):
        found = difference(rounds(60, 2 * seed, longer_us=25), rounds(60, 2 * seed + 1))
        missed += not found.low_us <= 25 <= found.high_us
    assert missed <= 5  # 1 is to be expected


def test_fewer_rounds_than_an_interval_needs_are_refused() -> None:
    with pytest.raises(ValueError, match="10 rounds are too few"):
        difference([1.0] * 10, [1.0] * 10)


def test_what_is_not_shown_to_be_the_same_and_a_leak_that_is_not_found_are_faults() -> None:
    same, wide, apart = Difference(0.1, -2.0, 3.0), Difference(0.0, -40.0, 41.0), Difference(60.0, 50.0, 70.0)

    def pair(there: Difference, *, same_answer: bool = True) -> Pair:
        return Pair("file, GET", 404, same_answer, 800.0, there, same, there.verdict)

    assert HiddenResult(400, pairs=[pair(same)], planted=pair(apart)).faults() == []
    assert HiddenResult(400, pairs=[pair(same, same_answer=False)]).faults() == ["file, GET: the answers differ"]
    told = HiddenResult(400, pairs=[pair(wide), pair(apart)], planted=pair(wide)).faults()
    assert told == [
        f"file, GET: undecided, -40.0 to 41.0 µs, but ±{BOUND_US:g} is the bound",
        f"file, GET: apart, 50.0 to 70.0 µs, but ±{BOUND_US:g} is the bound",
        "a planted leak was not found: undecided",
    ]


@pytest.mark.jail
@pytest.mark.slow
def test_a_lookup_that_reads_a_file_where_the_id_exists_shows(nsjail: None, tmp_path: Path) -> None:
    # Read a hundred times, so that it shows within few rounds on a slow machine that does other things too: twenty
    # reads took 0.3 ms there, where the answer took 2.6 and the interval was a millisecond wide.
    (found,) = pairs(tmp_path / "leaky", (LEAKY[0], "100"), 40, 1, print, only="file, GET")
    assert (found.status, found.same_answer) == (404, True)
    assert found.verdict is Verdict.APART, found
    assert found.there.low_us > 0
    assert found.control.verdict is not Verdict.APART
