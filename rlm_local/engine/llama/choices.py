"""Choices scored exactly: the probability of each whole choice given the prompt.

A choice is the tokens that the tokenizer makes of its text. Where one choice's tokens begin another's, the
shorter one counts only if the reply ends there. One-token labels need no computation beyond the prompt's; all
others need one more pass, whatever their number, as long as it fits a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from rlm_local.engine.llama.reply import ChoiceProbability, log_softmax
from rlm_local.engine.llama.sampler import Logits

Place = tuple[int, ...]  # tokens after the prompt
T = TypeVar("T")


class ChoiceTree:
    """The tokens of some choices, and where in them logits are needed."""

    def __init__(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], ends: frozenset[int]) -> None:
        self.texts = texts
        self.tokens = [tuple(t) for t in tokens]
        self._ends = sorted(ends)
        whole = set(self.tokens)
        inner = {t[:size] for t in self.tokens for size in range(len(t))}
        self._ending = whole & inner  # here an end token decides between a choice and a longer one
        places = inner | self._ending
        self.paths = [p for p in sorted(places) if p and not any(len(q) > len(p) and q[: len(p)] == p for q in places)]

    @property
    def cells(self) -> int:
        """Tokens beyond the prompt that must be computed."""
        return sum(len(path) for path in self.paths)

    @property
    def longest(self) -> int:
        return max(map(len, self.paths), default=0)

    def at(self, place: Place, logits: Logits) -> dict[Place, float]:
        """Return the log-probability of each step that leads on from `place`; an end is written as -1."""
        logprobs = log_softmax(logits)
        steps = {t[: len(place) + 1] for t in self.tokens if len(t) > len(place) and t[: len(place)] == place}
        found = {step: float(logprobs[step[-1]]) for step in steps}
        if place in self._ending:
            found[(*place, -1)] = float(np.logaddexp.reduce(logprobs[self._ends].astype(np.float64)))
        return found

    def probabilities(self, steps: dict[Place, float]) -> tuple[ChoiceProbability, ...]:
        """Return every choice's probability from the steps of all places."""
        logprobs = [sum(steps[step] for step in self._steps(t)) for t in self.tokens]
        best = max(logprobs)
        total = sum(math.exp(p - best) for p in logprobs)
        return tuple(
            ChoiceProbability(text, math.exp(p - best) / total, p) for text, p in zip(self.texts, logprobs, strict=True)
        )

    def _steps(self, tokens: Place) -> Iterable[Place]:
        yield from (tokens[: size + 1] for size in range(len(tokens)))
        if tokens in self._ending:
            yield (*tokens, -1)


def groups(work: Sequence[tuple[T, Place]], *, tokens: int, count: int) -> Iterable[list[tuple[T, Place]]]:
    """Yield pieces of work in runs of at most `count` pieces and `tokens` tokens together."""
    run: list[tuple[T, Place]] = []
    for whose, path in work:
        if run and (len(run) == count or sum(len(p) for _, p in run) + len(path) > tokens):
            yield run
            run = []
        run.append((whose, path))
    if run:
        yield run


def pick(probabilities: Sequence[ChoiceProbability], *, temperature: float, seed: int | None) -> int:
    """Return the index of the winner: the likeliest at temperature 0, else one drawn."""
    scores = np.array([p.logprob for p in probabilities])
    if temperature < 1e-5:
        return int(np.argmax(scores))
    weights = np.exp((scores - scores.max()) / temperature)
    return int(np.random.default_rng(seed).choice(len(weights), p=weights / weights.sum()))
