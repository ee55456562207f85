"""Logits to one token: temperature, top-k, top-p, min-p, repetition penalty, a seed, and a mask.

The order is vLLM's: penalty, mask, temperature, min-p, top-k, top-p, draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Logits: TypeAlias = NDArray[np.float32]  # (vocab,)
_BLOCK = 512  # tokens


class TokenMask(Protocol):
    def allows(self, token: int) -> bool:
        """Cheap: is this one token allowed next?"""
        ...

    def allowed(self) -> NDArray[np.bool_]:
        """Dear: (vocab,), which tokens are allowed next; at least one is."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    temperature: float = 1.0  # 0 takes the likeliest token
    top_p: float = 1.0  # 1 keeps all
    top_k: int = 0  # 0 keeps all
    min_p: float = 0.0  # share of the likeliest token's probability; 0 keeps all
    repetition_penalty: float = 1.0  # 1 is none; over prompt and reply
    seed: int | None = None  # None draws differently each time

    @property
    def greedy(self) -> bool:
        return self.temperature < 1e-5  # below that, float32 has no room for a second token

    @property
    def truncates(self) -> bool:
        return not self.greedy and (self.top_p < 1 or self.top_k > 0 or self.min_p > 0)


class Sampler:
    """The draws of one request. The same settings, logits and masks give the same tokens."""

    def __init__(self, settings: Settings, *, prompt: list[int] | None = None) -> None:
        self._settings = settings
        self._random = np.random.default_rng(settings.seed)
        self._seen = set(prompt or ())

    def next(self, logits: Logits, mask: TokenMask | None = None) -> int:
        """Return the next token, drawn from exactly the distribution that `mask` leaves.

        The whole mask is rarely needed: a token drawn without it is kept if it is allowed, else one is
        drawn with it. With p the free distribution and A the allowed share of it, an allowed x comes out
        with p(x) + (1 - A) * p(x) / A = p(x) / A, as it should; for temperature 0 both ways give the
        likeliest allowed token. Truncation (top-p and its like) must count allowed tokens only, so there
        the mask comes first.
        """
        logits = self._penalised(logits)
        if mask is not None and self._settings.truncates:
            token = self._draw(_masked(logits, mask))
        else:
            token = self._draw(logits)
            if mask is not None and not mask.allows(token):
                token = self._draw(_masked(logits, mask))
        self._seen.add(token)
        return token

    def _penalised(self, logits: Logits) -> Logits:
        penalty = self._settings.repetition_penalty
        if penalty == 1 or not self._seen:
            return logits
        seen = np.fromiter(self._seen, dtype=np.intp)
        logits = logits.copy()
        values = logits[seen]
        logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        return logits

    def _draw(self, logits: Logits) -> int:
        if self._settings.greedy:
            return int(np.argmax(logits))
        weights = logits - logits.max()
        weights /= np.float32(self._settings.temperature)
        np.exp(weights, out=weights)
        if not self._settings.truncates:
            return _pick(weights, self._random.random())
        kept = self._kept(weights)
        return int(kept[_pick(weights[kept], self._random.random())])

    def _kept(self, weights: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the tokens that min-p, top-k and top-p leave, likeliest first."""
        kept = np.flatnonzero(weights >= max(self._settings.min_p * weights.max(), np.finfo(np.float32).tiny))
        if 0 < self._settings.top_k < len(kept):
            kept = _heaviest(weights, kept, self._settings.top_k)
        if self._settings.top_p == 1:
            return kept
        needed = self._settings.top_p * weights[kept].sum(dtype=np.float64)
        for size in (64, 1024, 16384, len(kept)):  # sorting a whole vocabulary would take 10 ms
            head = _heaviest(weights, kept, min(size, len(kept)))
            mass = np.cumsum(weights[head], dtype=np.float64)
            if mass[-1] >= needed:
                return head[: int(np.searchsorted(mass, needed)) + 1]
        return kept  # rounding: the sum in another order fell short of `needed`


def _masked(logits: Logits, mask: TokenMask) -> Logits:
    return np.where(mask.allowed(), logits, np.float32(-np.inf))


def _heaviest(weights: NDArray[np.float32], tokens: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    if count < len(tokens):
        tokens = tokens[np.argpartition(-weights[tokens], count - 1)[:count]]
    return tokens[np.argsort(-weights[tokens], kind="stable")]


def _pick(weights: NDArray[np.float32], chance: float) -> int:
    """Return an index with probability in proportion to its weight; chance: uniform in [0, 1).

    By blocks, and then within one: a running sum over a whole vocabulary takes milliseconds, this 0.1.
    """
    blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64)
    block, rest = _meet(np.cumsum(blocks), chance * blocks.sum())
    begin = block * _BLOCK
    return begin + _meet(np.cumsum(weights[begin : begin + _BLOCK], dtype=np.float64), rest)[0]


def _meet(mass: NDArray[np.float64], point: float) -> tuple[int, float]:
    """Return where a running sum first exceeds `point`, and how far beyond the sum before that point is."""
    # `right`, so that an index of no weight is never met; rounding may have put the point beyond the total.
    point = min(point, float(np.nextafter(mass[-1], 0)))
    index = int(np.searchsorted(mass, point, side="right"))
    return index, point - (float(mass[index - 1]) if index else 0.0)
