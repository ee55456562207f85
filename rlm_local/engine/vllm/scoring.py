"""The exact probability of each of some choices, over vLLM's API.

A choice is the tokens that the engine's tokenizer makes of its text, and its probability is the product of its tokens'.
vLLM tells the log-probability of named tokens after a prompt (`logprob_token_ids`), so one request of one token serves
each place where choices go on: one for labels of a single token, else one more for each beginning of a label. All
after the first find the prompt in the prefix cache. Where a choice's tokens begin another's, the shorter one counts
only if the reply ends there. prompt_logprobs would say the same, but vLLM reads no cache for a request with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Tokens: TypeAlias = tuple[int, ...]


class ChoiceTree:
    """The tokens of some choices, and where in them a log-probability is needed. end: the token that ends a reply."""

    def __init__(self, choices: Sequence[Tokens], end: int) -> None:
        self._choices = tuple(choices)
        whole = set(choices)
        inner = {tokens[:size] for tokens in choices for size in range(len(tokens))}
        self._ends = whole & inner  # here the end decides between a choice and a longer one
        self._end = end

    @property
    def places(self) -> list[Tokens]:
        """Return the beginnings of choices after which some go on, shorter ones first."""
        inner = {tokens[:size] for tokens in self._choices for size in range(len(tokens))}
        return sorted(inner, key=lambda place: (len(place), place))

    def steps(self, place: Tokens) -> list[int]:
        """Return the tokens whose log-probabilities are needed at this place."""
        at = len(place)
        following = {tokens[at] for tokens in self._choices if len(tokens) > at and tokens[:at] == place}
        return sorted(following | ({self._end} if place in self._ends else set()))

    def logprobs(self, steps: Mapping[Tokens, Mapping[int, float]]) -> tuple[float, ...]:
        """Return each choice's log-probability from those of the steps at all places."""
        return tuple(self._logprob(tokens, steps) for tokens in self._choices)

    def _logprob(self, tokens: Tokens, steps: Mapping[Tokens, Mapping[int, float]]) -> float:
        total = math.fsum(steps[tokens[:at]][token] for at, token in enumerate(tokens))
        return total + steps[tokens][self._end] if tokens in self._ends else total


def winner(logprobs: Sequence[float], *, temperature: float, draw: float) -> int:
    """Return the index of the likeliest choice at temperature 0, else of the one that `draw` (0..1) falls on."""
    best = max(logprobs)
    if temperature < 1e-5:
        return logprobs.index(best)
    weights = [math.exp((one - best) / temperature) for one in logprobs]
    left = draw * sum(weights)
    for at, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return at
    return len(weights) - 1
