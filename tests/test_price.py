"""What tokens cost, and how an amount is told."""

from __future__ import annotations

import pytest

from rlm_local.errors import ConfigError
from rlm_local.limits import Limits, priced
from rlm_local.price import Cost, Price
from rlm_local.types import Answer, StopReason, Usage

PRICE = Price("EUR", 2.0, 0.5, 8.0)


def test_each_kind_of_token_has_its_price() -> None:
    answer = Answer("x", StopReason.FINAL, True, usage=Usage(1_000_000, 400_000, 250_000), price=PRICE)
    assert answer.cost == Cost(0.6 * 2.0 + 0.4 * 0.5 + 0.25 * 8.0, "EUR")
    assert Answer("x", StopReason.FINAL, True, usage=Usage(1_000)).cost is None


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        (0.0, "0.00 EUR"),
        (1234.5, "1,234.50 EUR"),
        (0.5, "0.500 EUR"),
        (0.01234, "0.0123 EUR"),
        (0.00000123, "0.00000123 EUR"),
        (1e-12, "0.000000000 EUR"),
    ],
)
def test_an_amount_is_told_to_the_digits_that_say_something(amount: float, told: str) -> None:
    assert str(Cost(amount, "EUR")) == told


def test_a_bound_without_a_price_list_is_refused_and_a_price_of_ones_own_comes_first() -> None:
    with pytest.raises(ConfigError, match="max_cost is 2, but the card of smollm2-135m has no price list"):
        priced(Limits(max_cost=2.0), None, "smollm2-135m")
    own = Price("CHF", 1.0, 1.0, 1.0)
    assert priced(Limits(price=own), PRICE, "smollm2-135m").price == own
    assert priced(Limits(max_cost=2.0), PRICE, "smollm2-135m").price == PRICE
    assert priced(Limits(), None, "smollm2-135m") == Limits()


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_what_is_no_price_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match="the price of completion tokens is"):
        Price("EUR", 1.0, 1.0, wrong)


def test_cached_tokens_cost_no_more_than_others() -> None:
    with pytest.raises(ConfigError, match=r"cached tokens cost 2.0, but must not cost more than others: 1.0"):
        Price("EUR", 1.0, 2.0, 1.0)
