"""What tokens cost: a card's price list, for machines that are paid by the token or booked to somebody."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlm_local.errors import ConfigError

PER_TOKENS = 1_000_000  # what a price is the price of, as everybody's lists say


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount of money."""

    amount: float
    currency: str  # as ISO 4217 writes it: EUR

    def __str__(self) -> str:
        # Two digits after the point, and of a small amount the first three that say something.
        digits = 2 if not 0 < self.amount < 1 else min(9, 2 - math.floor(math.log10(self.amount)))
        return f"{self.amount:,.{digits}f} {self.currency}"


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in one currency. Raises ConfigError for what is no price."""

    currency: str
    prompt: float  # of prompt tokens that the engine had to compute
    cached: float  # of prompt tokens that it had in its cache
    completion: float

    def __post_init__(self) -> None:
        for name in ("prompt", "cached", "completion"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"the price of {name} tokens is {value}, but must be 0 or more, and finite")
        if self.cached > self.prompt:  # what a call may cost is reckoned as if nothing were cached
            raise ConfigError(f"cached tokens cost {self.cached}, but must not cost more than others: {self.prompt}")

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost; cached_tokens are those of the prompt_tokens that were in the cache."""
        computed = prompt_tokens - cached_tokens
        parts = (computed * self.prompt, cached_tokens * self.cached, completion_tokens * self.completion)
        return math.fsum(parts) / PER_TOKENS

    def told(self, amount: float) -> str:
        """Return an amount of this currency in words."""
        return str(Cost(amount, self.currency))
