"""What nobody is using waits on the shelf, and comes back by a copy: on a memory of lists."""

from __future__ import annotations

from array import array

import numpy as np
import pytest

from rlm_local.engine.llama import prefix_tree
from rlm_local.engine.llama.prefix_node import Node
from rlm_local.engine.llama.shelf import Shelf
from tests.engine.list_memory import Bench, cached, check_shelf

TALK = [1 + i % 19 for i in range(60)]


def test_what_gives_way_comes_back_by_a_copy_and_not_by_computing() -> None:
    bench = Bench(cells=100, shelf=1000)
    first = bench.generate(TALK, 1)
    bench.generate([31] * 80, 1)  # leaves no room for the other
    assert (cached(bench, TALK), bench.tree.shelf.tokens) == (0, 60)
    computed = bench.memory.computed
    again = bench.generate(TALK, 1)
    assert (again.text, again.usage.cached_tokens) == (first.text, 59)
    assert bench.memory.computed == computed + 1
    bench.check()


def test_what_nobody_is_using_is_put_away_when_somebody_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_tree, "IDLE_CELLS", 10)
    bench = Bench(cells=100, shelf=100)
    bench.generate(TALK, 1)
    assert bench.memory.used() == 60  # its next turn finds it in place
    bench.submit([31, 31])
    bench.scheduler.step()
    assert (bench.memory.used(), bench.tree.shelf.tokens) == (1, 60)
    bench.run()
    bench.check()


@pytest.mark.parametrize(("shelf", "left"), [(30, 60), (70, 0)])
def test_more_stays_in_place_beside_a_small_shelf(shelf: int, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_tree, "IDLE_CELLS", 10)
    bench = Bench(cells=100, shelf=shelf)
    bench.generate(TALK, 1)
    bench.generate([31, 31], 1)
    assert bench.memory.used() == 2 + left


def test_a_branch_of_what_is_shelved_brings_back_the_common_part_only_where_that_pays() -> None:
    bench = Bench(cells=100, shelf=1000)
    bench.generate(TALK, 1)
    bench.generate([31] * 80, 1)
    assert bench.generate([*TALK[:15], 30, 30], 1).usage.cached_tokens == 0  # fifteen tokens are computed as soon
    assert bench.generate([*TALK[:40], 30, 30], 1).usage.cached_tokens == 40
    bench.check()
    check_shelf(bench)


def test_what_is_shelved_longest_goes_first_when_the_shelf_is_full() -> None:
    bench = Bench(cells=50, shelf=100)
    for first in (1, 2, 3, 4):
        bench.generate([first, *[9] * 39], 1)
    check_shelf(bench)
    assert [bench.generate([first, *[9] * 39], 1).usage.cached_tokens for first in (4, 3, 2, 1)] == [39, 39, 39, 0]


def test_a_scope_that_is_flushed_leaves_nothing_on_the_shelf() -> None:
    bench = Bench(cells=100, shelf=1000)
    for scope in ("a", "b"):
        bench.generate(TALK, 1, scope=scope)
    bench.generate([31] * 80, 1)
    assert bench.tree.shelf.tokens == 120
    assert bench.scheduler.flush("a") == 60
    assert [bench.generate(TALK, 1, scope=scope).usage.cached_tokens for scope in ("a", "b")] == [0, 59]


def test_a_short_head_that_is_shelved_too_does_not_stop_the_rest() -> None:
    bench = Bench(cells=200, shelf=1000)
    for last in (20, 21):
        bench.generate([30, 31, *([last] * 60)], 1)  # two tokens in common: a node of their own
    bench.generate([29] * 200, 1)
    assert bench.generate([30, 31, *([21] * 60), 5], 1).usage.cached_tokens == 62


def test_what_is_larger_than_the_shelf_pushes_nothing_from_it_and_is_trimmed_in_place() -> None:
    bench = Bench(cells=100, shelf=40)
    bench.generate(TALK[:30], 1)
    bench.generate([31] * 80, 1)
    bench.generate([30] * 30, 1)
    assert (bench.tree.shelf.tokens, cached(bench, [31] * 80)) == (30, 70)
    bench.check()


def test_a_branch_that_may_be_copied_back_is_not_counted_on_by_the_one_in_place() -> None:
    """Else more is admitted than there are cells for."""
    bench = Bench(cells=200, shelf=1000)
    whole = [7] * 15 + [8] * 85
    bench.generate(whole, 1)
    bench.generate([29] * 195, 1)
    running = bench.submit([*whole[:15], *([30] * 5)], 50, ignore_ends=True)  # fifteen tokens are computed anew
    bench.scheduler.step()
    waiting = bench.submit([*whole, 5], 46, ignore_ends=True)
    bench.run()
    assert [request.result.exception(0) for request in (running, waiting)] == [None, None]


def test_what_cannot_fit_pushes_nobody_out() -> None:
    bench = Bench(cells=200, shelf=1000)
    bench.generate([*([7] * 100), *([8] * 50)], 1)
    bench.generate([29] * 195, 1)
    bench.generate(TALK, 1)
    running = bench.submit([21] * 100, 30, ignore_ends=True)
    while not running.reply:
        bench.scheduler.step()
    wants_some = bench.submit([*([7] * 20), 3], 1)
    while not wants_some.result.done():
        bench.scheduler.step()
    assert cached(bench, TALK) == 59
    assert bench.memory.restored == 0


def test_a_token_more_than_is_in_place_is_not_worth_a_copy() -> None:
    bench = Bench(cells=400, shelf=1000)
    bench.memory.may_restore = lambda: False
    bench.generate([*([7] * 100), 8, 8], 1)
    bench.generate([29] * 400, 1)
    bench.generate([*([7] * 100), 9], 1)
    bench.memory.may_restore = lambda: True
    assert bench.generate([*([7] * 100), 8, 10], 1).usage.cached_tokens == 100
    assert bench.memory.restored == 0


def test_what_ends_beside_somebody_who_goes_on_is_put_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_tree, "IDLE_CELLS", 10)
    bench = Bench(cells=1000, shelf=1000)
    long = bench.submit([5] * 20, 100, ignore_ends=True)
    short = [bench.submit([last] * 100, 3, ignore_ends=True) for last in range(6, 12)]
    while not all(request.result.done() for request in short):
        bench.scheduler.step()
    bench.scheduler.step()
    assert not long.result.done()
    assert bench.tree.used - bench.tree.pinned() <= 10


def test_a_conversation_of_hundreds_of_turns_is_flushed() -> None:
    bench = Bench(cells=2000, shelf=2000)
    prompt = [5]
    for turn in range(400):
        prompt = [*prompt, 1 + turn % 20, 1 + turn % 7]
        bench.generate(prompt, 1)
    bench.generate([29] * 1990, 1)
    assert bench.tree.shelf.tokens > 700
    bench.scheduler.flush(None)
    check_shelf(bench)
    assert bench.tree.shelf.tokens == 0


def test_what_cannot_be_copied_out_is_dropped_and_nobody_suffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_tree, "IDLE_CELLS", 10)
    bench = Bench(cells=100, shelf=100)
    bench.generate(TALK, 1)

    def full(*_: int) -> None:
        raise MemoryError

    monkeypatch.setattr(bench.memory, "save", full)
    assert bench.generate([31, 31], 1).text == Bench().generate([31, 31], 1).text
    assert bench.tree.shelf.tokens == 0
    bench.check()


def test_the_shelf_gives_up_ends_before_what_they_hang_on() -> None:
    shelf, root = Shelf(30), Node("", None, 0, array("i"))
    head, tail, other = Node("", root, 0, tokens(1)), Node("", None, 10, tokens(2)), Node("", root, 0, tokens(3))
    tail.parent, head.last_used, tail.last_used, other.last_used = head, 1, 2, 3
    for node in (head, other, tail):
        shelf.put(node, np.zeros(1, np.uint8))
    shelf.reserve(10)
    assert (head.shelved, root.shelved) == ([], [head, other])
    shelf.reserve(20)
    assert root.shelved == [other]


def tokens(first: int) -> array[int]:
    return array("i", [first] * 10)
