"""The cache's logic on a memory of lists, and whole generations on a model that is a hash."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from rlm_local.engine.llama.generate import Generated, Generator, Job
from rlm_local.engine.llama.interrupt import Cancel, NoRoom
from rlm_local.engine.llama.prefix import PrefixCache, Resident
from rlm_local.engine.llama.sampler import Settings
from rlm_local.types import ReplyStop

VOCAB = 32


class ListMemory:
    """A context whose sequences are lists. Cells are (position, whole prefix), so shared ones count once.

    Its logits are a hash of the whole sequence: any token that a cache got wrong changes the reply.
    """

    batch = 8

    def __init__(self, cells: int = 10**6) -> None:
        self.cells = cells
        self.sequences: dict[int, list[tuple[int, object]]] = {}
        self.computed = 0

    def used(self) -> int:
        return len({id(cell) for held in self.sequences.values() for cell in held})

    def share(self, source: int, target: int, end: int) -> None:
        assert not self.sequences.get(target)
        self.sequences[target] = self.sequences[source][:end]

    def remove(self, sequence: int, start: int) -> None:
        self.sequences[sequence] = self.sequences.get(sequence, [])[:start]

    def obey(self, cancel: Cancel) -> None:
        pass

    def decode(self, tokens: Sequence[int], *, sequence: int, start: int) -> NDArray[np.float32]:
        held = self.sequences.setdefault(sequence, [])
        assert len(held) == start
        if self.used() + len(tokens) > self.cells:
            raise NoRoom("full")
        held += [(token, object()) for token in tokens]
        self.computed += len(tokens)
        seed = hash(tuple(token for token, _ in held)) % 2**32
        return np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32)


class Letters:
    ends = frozenset({0})

    def piece(self, token: int) -> bytes:
        return bytes([96 + token])


def generate(prompt: list[int], generator: Generator, max_tokens: int = 6) -> Generated:
    return generator.run(Job(prompt, max_tokens, Settings(temperature=0)), Cancel())


def generator_with(memory: ListMemory, *, sequences: int = 8, reuse: bool = True) -> tuple[Generator, PrefixCache]:
    cache = PrefixCache(memory, sequences=sequences, reuse=reuse)
    return Generator(memory, Letters(), cache), cache


def fill(cache: PrefixCache, memory: ListMemory, prompt: list[int], reply: Sequence[int] = ()) -> Resident:
    resident = cache.claim(prompt)
    rest = [*prompt[len(resident.tokens) :], *reply]
    memory.decode(rest, sequence=resident.sequence, start=len(resident.tokens))
    resident.append(rest)
    cache.settle(resident)
    return resident


def cached(cache: PrefixCache, prompt: list[int]) -> int:
    resident = cache.claim(prompt)
    count = len(resident.tokens)
    cache.settle(resident)
    return count


def test_an_identical_prompt_computes_one_token() -> None:
    memory = ListMemory()
    generator, _ = generator_with(memory)
    first = generate([1, 2, 3, 4], generator)
    second = generate([1, 2, 3, 4], generator)
    assert (first.usage.cached_tokens, second.usage.cached_tokens) == (0, 3)
    assert second.text == first.text


def test_a_prompt_shares_its_longest_prefix_over_all_residents() -> None:
    memory = ListMemory()
    cache = PrefixCache(memory, sequences=8)
    fill(cache, memory, [1, 2, 9, 9])
    fill(cache, memory, [1, 2, 3, 8])
    fill(cache, memory, [7, 7])
    before = memory.used()
    resident = cache.claim([1, 2, 3, 4, 5])
    assert resident.tokens.tolist() == [1, 2, 3]
    assert memory.used() == before  # shared, not copied


def test_the_next_turn_goes_on_in_place_and_takes_no_second_sequence() -> None:
    memory = ListMemory()
    cache = PrefixCache(memory, sequences=8)
    root = fill(cache, memory, [1, 2, 3], reply=[4, 5])
    turn = cache.claim([1, 2, 3, 4, 5, 6])
    assert turn is root
    assert turn.tokens.tolist() == [1, 2, 3, 4, 5]


def test_a_root_is_not_lost_to_one_off_requests_that_fill_the_memory() -> None:
    memory = ListMemory(cells=100)
    generator, cache = generator_with(memory)
    fill(cache, memory, list(range(1, 21)), reply=[5, 5])
    grown = [*range(1, 21), 5, 5, *range(1, 11)]
    fill(cache, memory, grown)
    for i in range(12):
        generate([31 - i, *([i + 1] * 24)], generator)
    assert cached(cache, [*grown, 1]) == len(grown)


def test_a_shared_head_does_not_keep_the_rest_of_its_donor_alive() -> None:
    memory = ListMemory(cells=40)
    generator, cache = generator_with(memory)
    prompts = [[9, 9, *([i] * 10)] for i in range(1, 6)]  # all begin as the first does
    for prompt in prompts:
        generate(prompt, generator, max_tokens=1)
    assert [cached(cache, prompt) > 2 for prompt in reversed(prompts)] == [True, True, True, False, False]


def test_sequence_numbers_that_run_short_cost_the_smallest_tail() -> None:
    memory = ListMemory()
    cache = PrefixCache(memory, sequences=3)
    fill(cache, memory, [1, 2, 3, 4, 5, 6])  # a root: 6 tokens of its own, and the least recently used
    fill(cache, memory, [9, 9, 9, 1])
    fill(cache, memory, [9, 9, 9, 2])  # 1 token of its own
    fill(cache, memory, [9, 9, 9, 3])
    assert cached(cache, [1, 2, 3, 4, 5, 6, 7]) == 6


def test_a_resident_that_says_nothing_more_than_another_is_dropped() -> None:
    memory = ListMemory()
    cache = PrefixCache(memory, sequences=8)
    fill(cache, memory, [1, 2, 3])
    fill(cache, memory, [1, 2, 3])
    assert memory.used() == 3


def test_a_cancelled_prompt_keeps_what_was_computed_and_no_cell_more() -> None:
    memory = ListMemory()
    cache = PrefixCache(memory, sequences=8)
    resident = cache.claim([1, 2, 3, 4])
    memory.decode([1, 2], sequence=resident.sequence, start=0)
    resident.append([1, 2])
    memory.decode([3], sequence=resident.sequence, start=2)  # computed, and aborted before it was noted
    cache.settle(resident)
    assert memory.used() == 2
    assert cached(cache, [1, 2, 3, 4]) == 2


def test_without_reuse_every_prompt_is_computed_anew_and_nothing_stays() -> None:
    memory = ListMemory()
    generator, _ = generator_with(memory, reuse=False)
    first, second = generate([1, 2, 3, 4], generator), generate([1, 2, 3, 4], generator)
    assert second.usage.cached_tokens == 0
    assert second.text == first.text
    assert memory.used() == 0


def test_a_prompt_that_no_eviction_makes_room_for_is_an_error_and_leaves_the_rest_usable() -> None:
    memory = ListMemory(cells=20)
    generator, _ = generator_with(memory)
    with pytest.raises(NoRoom):
        generate([1] * 30, generator)
    assert generate([1] * 10, generator).usage.cached_tokens == 9  # two batches of 8 had fitted


@pytest.mark.parametrize("sequences", [1, 2, 8])
@pytest.mark.parametrize("seed", range(5))
def test_replies_are_the_same_with_any_cache_as_with_none(seed: int, sequences: int) -> None:
    chance = random.Random(seed)
    generator, cache = generator_with(memory := ListMemory(cells=60), sequences=sequences)
    prompts = [[chance.randrange(1, 4) for _ in range(chance.randrange(1, 40))] for _ in range(12)]
    for _ in range(150):
        prompt = chance.choice(prompts)
        free, _ = generator_with(ListMemory())
        expected, reply = generate(prompt, free), generate(prompt, generator)
        assert reply.text == expected.text
        assert reply.usage.cached_tokens < reply.usage.prompt_tokens
        if chance.random() < 0.3:  # the conversation goes on
            prompts[chance.randrange(len(prompts))] = [*prompt, *(ord(c) - 96 for c in reply.text), 2][:40]
        assert memory.used() <= 60
    held = {r.sequence: r.tokens.tolist() for r in cache._residents}
    assert held == {s: [token for token, _ in cells] for s, cells in memory.sequences.items() if cells}


def test_a_reply_ends_at_an_end_token_or_at_its_length() -> None:
    generator, _ = generator_with(ListMemory())
    stops = {generate([i, j], generator, max_tokens=20).stop for i in range(1, 8) for j in range(1, 8)}
    assert stops == {ReplyStop.COMPLETE, ReplyStop.LENGTH}
