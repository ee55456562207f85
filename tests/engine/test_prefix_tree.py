"""What requests share: computed once, kept while there is room, and never by another scope."""

from __future__ import annotations

import random

import pytest

from rlm_local.engine.llama import prefix_tree
from rlm_local.engine.llama.prefix_node import Wanted
from rlm_local.engine.llama.reply import Generated
from rlm_local.engine.llama.request import Request
from rlm_local.engine.llama.sampler import Settings
from tests.engine.list_memory import Bench, cached, check_scopes, check_shelf


def test_an_identical_prompt_computes_one_token() -> None:
    bench = Bench()
    first, second = bench.generate([1, 2, 3, 4]), bench.generate([1, 2, 3, 4])
    assert (first.usage.cached_tokens, second.usage.cached_tokens) == (0, 3)
    assert second.text == first.text


def test_what_two_requests_computed_alike_is_kept_once() -> None:
    bench = Bench()
    twins = [bench.submit([1, 2, 3, 4]) for _ in range(2)]
    bench.run()
    assert twins[0].result.result(0).text == twins[1].result.result(0).text
    assert bench.memory.used() == 4 + len(twins[0].reply) - 1  # the last token was not computed
    bench.check()


def test_a_prompt_shares_its_longest_prefix_and_takes_no_cell_for_it() -> None:
    bench = Bench()
    for prompt in ([1, 2, 9, 9], [1, 2, 3, 8], [7, 7]):
        bench.generate(prompt, 1)
    before = bench.memory.used()
    tip = bench.tree.open(Wanted.of("", [1, 2, 3, 4, 5]))
    assert tip.end == 3
    assert bench.memory.used() == before
    bench.tree.close(tip)
    bench.check()


def test_a_fan_out_that_comes_at_once_computes_its_shared_prefix_once() -> None:
    bench = Bench()
    shared = [1 + i % 20 for i in range(60)]
    requests = [bench.submit([*shared, i, 30], 1) for i in range(1, 9)]
    bench.run()
    assert [r.result.result(0).usage.cached_tokens for r in requests] == [0, *[60] * 7]
    assert bench.memory.computed == 60 + 8 * 2


def test_a_root_is_not_lost_to_one_off_requests_that_fill_the_memory() -> None:
    bench = Bench(cells=100)
    root = list(range(1, 21))
    reply = [ord(c) - 96 for c in bench.generate(root, 3, ignore_ends=True).text]
    grown = [*root, *reply, *range(1, 11)]
    bench.generate(grown, 1)
    for i in range(12):
        bench.generate([31 - i, *([i + 1] * 24)])
    assert cached(bench, [*grown, 1]) == len(grown)


def test_the_least_recently_used_end_goes_first_and_a_shared_head_last() -> None:
    bench = Bench(cells=40)
    prompts = [[9, 9, *([i] * 10)] for i in range(1, 6)]  # all begin as the first does
    for prompt in prompts:
        bench.generate(prompt, 1)
    # 2 shared and 5 x 10 of their own, where 38 have room: the oldest is gone but for its head, the next lost 2.
    assert [cached(bench, [*prompt, 1]) for prompt in prompts] == [2, 10, 12, 12, 12]
    bench.check()


def test_sequence_numbers_that_run_short_cost_the_smallest_tail() -> None:
    bench = Bench(sequences=3)
    bench.generate([1, 2, 3, 4, 5, 6], 1)  # a root: 6 tokens of its own, and the least recently used
    for last in (1, 2, 3):
        bench.generate([9, 9, 9, last], 1)
    assert cached(bench, [1, 2, 3, 4, 5, 6, 7]) == 6


def test_scopes_share_no_cell_and_are_flushed_one_by_one() -> None:
    bench = Bench()
    for scope in ("a", "b"):
        assert bench.generate([1, 2, 3, 4], 1, scope=scope).usage.cached_tokens == 0
    assert [cached(bench, [1, 2, 3, 4], scope) for scope in ("a", "b", "c")] == [3, 3, 0]
    assert bench.scheduler.flush("a") == 4
    assert [cached(bench, [1, 2, 3, 4], scope) for scope in ("a", "b")] == [0, 3]
    bench.check()


HEAD = [7, 8, 9, 7, 8, 9]


def test_what_holds_nobodys_words_is_computed_once_for_all_scopes() -> None:
    bench = Bench()
    for scope, cached_tokens in (("a", 0), ("b", 6), ("c", 6)):
        prompt = [*HEAD, 1, 2, 3]
        assert bench.generate(prompt, 1, scope=scope, public=6).usage.cached_tokens == cached_tokens
    assert bench.memory.used() == 6 + 3 * 3
    assert [cached(bench, [*HEAD, 1, 2, 3], scope, 6) for scope in ("a", "d")] == [8, 6]
    bench.check()


def test_only_for_those_who_say_so_of_their_own_prompt_too() -> None:
    bench = Bench()
    bench.generate([*HEAD, 1, 2], 1, scope="a", public=6)
    assert cached(bench, [*HEAD, 1, 2], "b") == 0
    assert cached(bench, [*HEAD, 1, 2], "b", public=4) == 4
    bench.generate([*HEAD, 5], 1, scope="c")
    assert cached(bench, [*HEAD, 5], "d", public=6) == 6  # by the first


def test_scopes_that_come_together_compute_it_once() -> None:
    bench = Bench()
    requests = [bench.submit([*HEAD * 3, 1, 2, last], 3, scope=str(last), public=18) for last in range(5)]
    bench.run()
    assert sorted(request.cached for request in requests) == [0, 18, 18, 18, 18]
    bench.check()


@pytest.mark.parametrize("shelf", [0, 100])
def test_a_scope_that_is_flushed_leaves_the_public_head(shelf: int) -> None:
    bench = Bench(cells=30, shelf=shelf)
    for scope in ("a", "b"):
        bench.generate([*HEAD, 1, 2, 3], 1, scope=scope, public=6)
    if shelf:
        bench.generate([31] * 28, 1)
    assert bench.scheduler.flush("a") == 3
    assert [cached(bench, [*HEAD, 1, 2, 3], scope, 6) for scope in ("a", "b")] == ([0, 0] if shelf else [6, 8])
    assert bench.generate([*HEAD * 3, 1], 1, scope="b", public=6).usage.cached_tokens == (0 if shelf else 6)


def test_without_reuse_every_prompt_is_computed_anew_and_nothing_stays() -> None:
    bench = Bench(reuse=False)
    first, second = bench.generate([1, 2, 3, 4]), bench.generate([1, 2, 3, 4])
    assert second.usage.cached_tokens == 0
    assert second.text == first.text
    assert bench.memory.used() == 0


@pytest.mark.parametrize("shelf", [0, 60, 2_000])
@pytest.mark.parametrize("sequences", [1, 2, 16])
@pytest.mark.parametrize("seed", range(5))
def test_replies_are_the_same_with_any_company_as_alone(
    seed: int, sequences: int, shelf: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_tree, "IDLE_CELLS", 30)
    monkeypatch.setattr(prefix_tree, "_WORTH_TOKENS", 2)
    chance = random.Random(seed)
    bench = Bench(cells=100, sequences=sequences, shelf=shelf)
    bench.memory.may_restore = lambda: chance.random() < 0.9
    prompts = [[chance.randrange(1, 4) for _ in range(chance.randrange(1, 40))] for _ in range(12)]
    under_way: list[tuple[Request, Generated]] = []
    for _ in range(150):
        prompt, scope = chance.choice(prompts), chance.choice(["", "", "x"])
        public = chance.choice([0, 3, 10])
        settings = Settings(temperature=chance.choice([0.0, 1.5]), seed=7)
        expected = Bench().generate(prompt, settings=settings)
        under_way.append((bench.submit(prompt, settings=settings, scope=scope, public=public), expected))
        if chance.random() < 0.1:
            bench.scheduler.interrupt(chance.choice(under_way)[0])
        for _ in range(chance.randrange(6)):
            bench.scheduler.step()
            assert bench.memory.used() <= 100
            assert bench.tree.used == bench.memory.used()
            check_shelf(bench)
            check_scopes(bench)
        if chance.random() < 0.3:  # the conversation goes on
            prompts[chance.randrange(len(prompts))] = [*prompt, *(ord(c) - 96 for c in expected.text), 2][:40]
    bench.run()
    for request, expected in under_way:
        if request.result.exception(0) is None:
            assert request.result.result(0).text == expected.text
            assert request.cached < len(request.prompt)
            assert request.cached <= max(may_share(request, other) for other, _ in under_way)
    assert sum(r.result.exception(0) is None for r, _ in under_way) > 100
    assert not bench.tree.pinned()
    bench.check()
    assert (bench.memory.restored > 0) is (shelf > 0)
    bench.scheduler.flush(None)
    check_shelf(bench)
    assert bench.tree.shelf.tokens == bench.tree.used == 0


def may_share(request: Request, other: Request) -> int:
    """Return how many tokens one may have of another: of its own scope all, of others what both have said is public."""
    if other is request:
        return 0
    said = [*other.prompt, *other.reply]
    mine = request.job
    size = next((at for at, (a, b) in enumerate(zip(mine.prompt, said, strict=False)) if a != b), len(mine.prompt))
    return size if other.job.scope == mine.scope else min(size, mine.public, other.job.public)
