from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rlm_local.engine.llama.sampler import Sampler, Settings, _pick

VOCAB = 12
LOGITS = np.array([2.0, 1.5, 1.4, 1.0, 0.5, 0.4, 0.0, -0.5, -1.0, -1.5, -2.0, -4.0], dtype=np.float32)
ALLOWED = np.array([False, True, False, False, True, True, False, True, False, True, True, True])


class ListMask:
    """A mask that counts how often it had to be computed whole."""

    def __init__(self, allowed: NDArray[np.bool_]) -> None:
        self._allowed = allowed
        self.computed = 0

    def allows(self, token: int) -> bool:
        return bool(self._allowed[token])

    def allowed(self) -> NDArray[np.bool_]:
        self.computed += 1
        return self._allowed


def brute_force(settings: Settings, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The distribution as its definition reads: mask, temperature, min-p, top-k, top-p, one step after another."""
    p = np.where(allowed, np.exp(LOGITS.astype(np.float64) / settings.temperature), 0)
    p[p < settings.min_p * p.max()] = 0
    order = np.argsort(-p, kind="stable")
    if settings.top_k:
        p[order[settings.top_k :]] = 0
    p /= p.sum()
    before = np.cumsum(p[order]) - p[order]
    p[order[before >= settings.top_p]] = 0
    return p / p.sum()


@pytest.mark.parametrize(
    "settings",
    [
        Settings(temperature=1.0, seed=1),
        Settings(temperature=1.7, seed=2),
        Settings(temperature=1.0, top_k=3, seed=3),
        Settings(temperature=1.0, top_p=0.7, seed=4),
        Settings(temperature=0.8, min_p=0.2, seed=5),
        Settings(temperature=1.3, top_k=5, top_p=0.9, min_p=0.01, seed=6),
    ],
    ids=["plain", "hot", "top_k", "top_p", "min_p", "all"],
)
@pytest.mark.parametrize("masked", [False, True])
def test_draws_follow_the_distribution_that_brute_force_computes(settings: Settings, masked: bool) -> None:
    draws = 20_000
    mask = ListMask(ALLOWED) if masked else None
    sampler = Sampler(settings)
    counts = np.bincount([sampler.next(LOGITS, mask) for _ in range(draws)], minlength=VOCAB)
    expected = brute_force(settings, ALLOWED if masked else np.ones(VOCAB, dtype=bool))
    spread = np.sqrt(expected * (1 - expected) / draws)
    assert np.all(np.abs(counts / draws - expected) <= 4.5 * spread)  # 0 where nothing is expected


def test_temperature_zero_is_the_likeliest_allowed_token() -> None:
    assert Sampler(Settings(temperature=0)).next(LOGITS) == 0
    assert Sampler(Settings(temperature=0)).next(LOGITS, ListMask(ALLOWED)) == 1


def test_the_whole_mask_is_computed_only_when_the_drawn_token_is_not_allowed() -> None:
    mask = ListMask(np.arange(VOCAB) != 11)
    sampler = Sampler(Settings(temperature=0))
    assert sampler.next(LOGITS, mask) == 0
    assert mask.computed == 0
    sampler.next(-LOGITS, mask)  # wants token 11
    assert mask.computed == 1


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    def tokens(seed: int) -> list[int]:
        sampler = Sampler(Settings(temperature=1.5, seed=seed))
        return [sampler.next(LOGITS, ListMask(ALLOWED)) for _ in range(50)]

    assert tokens(7) == tokens(7)
    assert tokens(7) != tokens(8)


def test_a_repetition_penalty_lowers_what_was_seen_in_prompt_or_reply() -> None:
    sampler = Sampler(Settings(temperature=0, repetition_penalty=2.0), prompt=[0])
    # 0 was in the prompt: 2.0 / 2 = 1.0 is below 1.5; then 1 is seen too: 1.5 / 2 = 0.75 is below 1.4
    assert [sampler.next(LOGITS), sampler.next(LOGITS)] == [1, 2]


def test_the_callers_logits_are_never_changed() -> None:
    logits = LOGITS.copy()
    sampler = Sampler(Settings(temperature=1.2, top_p=0.5, repetition_penalty=1.3, seed=0), prompt=[1, 2])
    sampler.next(logits, ListMask(ALLOWED))
    assert np.array_equal(logits, LOGITS)


def test_a_large_vocabulary_is_cut_as_a_small_one() -> None:
    """top_p looks at the 64 likeliest first, then at more; a flat distribution needs nearly all of them."""
    flat = np.zeros(20_000, dtype=np.float32)
    sampler = Sampler(Settings(temperature=1.0, top_p=0.9, seed=0))
    assert len(sampler._kept(np.exp(flat))) == 18_000


@pytest.mark.parametrize("size", [1, 511, 512, 513, 5_000])
def test_a_draw_by_blocks_meets_the_index_of_a_running_sum(size: int) -> None:
    random = np.random.default_rng(size)
    weights = random.random(size).astype(np.float32) * (random.random(size) < 0.3)
    weights[-1] = 1.0
    mass = np.cumsum(weights, dtype=np.float64)
    for chance in [0.0, *random.random(500), np.nextafter(1, 0)]:
        index = _pick(weights, float(chance))
        assert weights[index] > 0
        below = mass[index - 1] if index else 0.0
        assert below - 1e-9 <= chance * mass[-1] <= mass[index] + 1e-9
