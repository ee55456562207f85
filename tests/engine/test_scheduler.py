"""The prefix tree on a memory of lists, and whole requests, many at a time, on a model that is a hash."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from rlm_local.engine.llama.choices import ChoiceTree
from rlm_local.engine.llama.compute import Part
from rlm_local.engine.llama.interrupt import Aborted, Cancel, DeadlinePassed, NoRoom
from rlm_local.engine.llama.prefix_tree import Node, PrefixTree
from rlm_local.engine.llama.reply import Generated
from rlm_local.engine.llama.request import Job, Request
from rlm_local.engine.llama.sampler import Settings
from rlm_local.engine.llama.scheduler import Scheduler
from rlm_local.errors import EngineRefused
from rlm_local.types import ReplyStop

VOCAB = 32


class ListMemory:
    """A context whose sequences are lists of cells, so shared ones count once.

    Its logits are a hash of the whole sequence: any token that a tree got wrong changes the reply.
    """

    batch = 8
    outputs = 8

    def __init__(self, cells: int = 10**6) -> None:
        self.cells = cells
        self.sequences: dict[int, list[tuple[int, object]]] = {}
        self.computed = 0
        self.calls: list[int] = []  # parts of each computation
        self.before = lambda: None  # called within each computation

    def used(self) -> int:
        return len({id(cell) for held in self.sequences.values() for cell in held})

    def share(self, source: int, target: int, start: int, end: int) -> None:
        held = self.sequences.setdefault(target, [])
        after = held[start:] if start else []
        assert len(held) >= start
        assert start or not held
        self.sequences[target] = held[:start] + self.sequences[source][start:end] + after

    def remove(self, sequence: int, start: int, end: int = -1) -> None:
        held = self.sequences.get(sequence, [])
        self.sequences[sequence] = held[:start] + (held[end:] if end >= 0 else [])

    def obey(self, cancel: Cancel) -> None:
        self.cancel = cancel

    def compute(self, parts: Sequence[Part]) -> list[NDArray[np.float32]]:
        self.before()
        self.calls.append(len(parts))
        if self.used() + sum(len(part.tokens) for part in parts) > self.cells:
            raise NoRoom("full")
        if self.cancel.is_set:
            raise Aborted("by the flag")
        rows = []
        for part in parts:
            held = self.sequences.setdefault(part.sequence, [])
            assert len(held) == part.start
            for i, token in enumerate(part.tokens):
                held.append((token, object()))
                self.computed += 1
                if i >= len(part.tokens) - part.wanted:
                    seed = hash(tuple(token for token, _ in held)) % 2**32
                    rows.append(np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32))
        return rows


class Letters:
    ends = frozenset({0})

    def piece(self, token: int) -> bytes:
        return bytes([96 + token])


class Bench:
    """A scheduler on a ListMemory."""

    def __init__(self, *, cells: int = 10**6, sequences: int = 16, reuse: bool = True, running: int = 8) -> None:
        self.memory = ListMemory(cells)
        self.now = 0.0
        self.tree = PrefixTree(self.memory, cells=cells, sequences=sequences, reuse=reuse)
        scratch = range(sequences, sequences + 4)
        running = min(running, sequences)
        self.scheduler = Scheduler(self.memory, self.tree, running=running, scratch=scratch, clock=lambda: self.now)

    def submit(self, prompt: list[int], max_tokens: int = 6, **job) -> Request:
        settings = job.pop("settings", Settings(temperature=0))
        request = Request(Job(prompt, max_tokens, settings, **job), Letters(), cancel=Cancel())
        self.scheduler.submit(request)
        return request

    def run(self) -> None:
        while self.scheduler.step():
            pass

    def generate(self, prompt: list[int], max_tokens: int = 6, **job) -> Generated:
        request = self.submit(prompt, max_tokens, **job)
        self.run()
        return request.result.result(0)

    def check(self) -> None:
        """The tree and the memory agree on every cell."""
        assert self.tree.used == self.memory.used()
        leaves = [node for node in self.tree._nodes() if not node.children]
        held = {leaf.sequence: says(leaf) for leaf in leaves}
        assert held == {s: [token for token, _ in cells] for s, cells in self.memory.sequences.items() if cells}


def says(leaf: Node) -> list[int]:
    return [token for node in reversed(list(leaf.path())) for token in node.tokens]


def cached(bench: Bench, prompt: list[int], scope: str = "") -> int:
    return bench.tree.known(scope, prompt)[0]


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
    tip = bench.tree.open("", [1, 2, 3, 4, 5])
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


def test_requests_decode_together_and_one_that_comes_late_joins_them() -> None:
    bench = Bench()
    ignoring = {"ignore_ends": True}
    early = [bench.submit([i], 9, **ignoring) for i in range(1, 4)]
    for _ in range(3):
        bench.scheduler.step()
    late = bench.submit([9], 3, **ignoring)
    bench.run()
    assert bench.memory.calls == [3, 3, 3, 4, 4, 4, 3, 3, 3]
    assert [len(r.reply) for r in [*early, late]] == [9, 9, 9, 3]


def test_a_long_prompt_does_not_stall_who_is_writing() -> None:
    bench = Bench()
    writer = bench.submit([1], 30, ignore_ends=True)
    bench.scheduler.step()
    bench.submit([2] * 80, 1)
    for _ in range(8):
        written = len(writer.reply)
        bench.scheduler.step()
        assert len(writer.reply) == written + 1


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


def test_a_request_waits_until_the_cells_that_it_can_reach_are_free() -> None:
    bench = Bench(cells=30)
    first = bench.submit([1, 2], 20, ignore_ends=True)
    second = bench.submit([3, 4], 20, ignore_ends=True)
    bench.scheduler.step()
    assert (first.is_admitted, second.is_admitted) == (True, False)
    bench.run()
    assert len(second.result.result(0).text) == 20


def test_a_request_that_can_never_fit_is_refused_with_both_numbers() -> None:
    bench = Bench(cells=20)
    with pytest.raises(EngineRefused, match="reach 35 tokens, but the memory holds 20"):
        bench.generate([1] * 30, 6)
    assert bench.generate([1] * 10).usage.cached_tokens == 0


def test_a_smaller_priority_goes_first() -> None:
    bench = Bench(running=1)
    order = [bench.submit([i], 1, priority=priority) for i, priority in ((1, 5), (2, 5), (3, -1))]
    ended = []
    while bench.scheduler.step():
        ended += [i for i, r in enumerate(order) if r.result.done() and i not in ended]
    assert ended[:1] == [2]


def test_a_cancelled_request_ends_within_a_step_and_leaves_no_uncounted_cell() -> None:
    bench = Bench()
    other = bench.submit([5, 6, 7], 4, ignore_ends=True)
    victim = bench.submit([1] * 50, 6)
    bench.scheduler.step()
    bench.memory.before = lambda: bench.scheduler.interrupt(victim)  # from another thread, in effect
    bench.scheduler.step()
    bench.memory.before = lambda: None
    bench.run()
    with pytest.raises(Aborted, match="after 50 tokens in, 0 out"):
        victim.result.result(0)
    assert len(other.result.result(0).text) == 4
    bench.check()


def test_a_deadline_ends_a_request_that_runs_and_one_that_waits() -> None:
    bench = Bench(running=1)
    requests = [bench.submit([i], 1000, deadline_s=5.0, ignore_ends=True) for i in (1, 2)]
    bench.scheduler.step()
    bench.now = 5.1
    bench.run()
    for request, out in zip(requests, (1, 0), strict=True):
        with pytest.raises(DeadlinePassed, match=f"5.0 s passed after 1 tokens in, {out} out"):
            request.result.result(0)


def test_without_reuse_every_prompt_is_computed_anew_and_nothing_stays() -> None:
    bench = Bench(reuse=False)
    first, second = bench.generate([1, 2, 3, 4]), bench.generate([1, 2, 3, 4])
    assert second.usage.cached_tokens == 0
    assert second.text == first.text
    assert bench.memory.used() == 0


@pytest.mark.parametrize("sequences", [1, 2, 16])
@pytest.mark.parametrize("seed", range(5))
def test_replies_are_the_same_with_any_company_as_alone(seed: int, sequences: int) -> None:
    chance = random.Random(seed)
    bench = Bench(cells=100, sequences=sequences)
    prompts = [[chance.randrange(1, 4) for _ in range(chance.randrange(1, 40))] for _ in range(12)]
    under_way: list[tuple[Request, Generated]] = []
    for _ in range(150):
        prompt, scope = chance.choice(prompts), chance.choice(["", "", "x"])
        settings = Settings(temperature=chance.choice([0.0, 1.5]), seed=7)
        expected = Bench().generate(prompt, settings=settings)
        under_way.append((bench.submit(prompt, settings=settings, scope=scope), expected))
        if chance.random() < 0.1:
            bench.scheduler.interrupt(chance.choice(under_way)[0])
        for _ in range(chance.randrange(6)):
            bench.scheduler.step()
            assert bench.memory.used() <= 100
            assert bench.tree.used == bench.memory.used()
        if chance.random() < 0.3:  # the conversation goes on
            prompts[chance.randrange(len(prompts))] = [*prompt, *(ord(c) - 96 for c in expected.text), 2][:40]
    bench.run()
    for request, expected in under_way:
        if request.result.exception(0) is None:
            assert request.result.result(0).text == expected.text
            assert request.cached < len(request.prompt)
    assert sum(r.result.exception(0) is None for r, _ in under_way) > 100
    assert not bench.tree.pinned()
    bench.check()


def test_a_reply_ends_at_an_end_token_or_at_its_length() -> None:
    bench = Bench()
    stops = {bench.generate([i, j], 20).stop for i in range(1, 8) for j in range(1, 8)}
    assert stops == {ReplyStop.COMPLETE, ReplyStop.LENGTH}


def test_choices_get_the_probability_of_every_token_of_theirs() -> None:
    bench = Bench()
    tokens = [(1,), (2, 3), (2, 3, 4), (2, 5, 6, 7)]

    def logprobs(*said: int) -> NDArray[np.float64]:
        seed = hash((8, 9, *said)) % 2**32
        logits = np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32).astype(np.float64)
        return logits - np.log(np.exp(logits).sum())

    expected = [sum(logprobs(*t[:i])[t[i]] for i in range(len(t))) for t in tokens]
    expected[1] += logprobs(2, 3)[0]  # "bc" also begins "bcd": it counts where the reply ends there
    reply = bench.generate([8, 9], choices=ChoiceTree("abcd", tokens, Letters.ends))
    assert reply.choices is not None
    assert [c.logprob for c in reply.choices] == pytest.approx(expected, abs=1e-4)
    assert sum(c.probability for c in reply.choices) == pytest.approx(1)
    assert reply.text == bytes(96 + t for t in tokens[int(np.argmax(expected))]).decode()
    assert bench.memory.computed == 2 + 2 + 3  # the prompt; b, c; b, e, f
    assert len(bench.memory.calls) == 3  # the prompt's head, its last token, the choices
    bench.check()


def test_one_token_choices_need_no_more_than_the_prompt() -> None:
    bench = Bench()
    bench.generate([8, 9], choices=ChoiceTree("ab", [(1,), (2,)], Letters.ends))
    assert bench.memory.computed == 2


def test_the_choices_of_many_requests_are_scored_together_and_each_as_if_alone() -> None:
    tokens = [(1, 2), (1, 3), (4,)]
    prompts = [[8, i] for i in range(4)]
    alone = [Bench().generate(prompt, choices=ChoiceTree("abc", tokens, Letters.ends)).choices for prompt in prompts]
    bench = Bench()
    requests = [bench.submit(prompt, choices=ChoiceTree("abc", tokens, Letters.ends)) for prompt in prompts]
    bench.run()
    assert [r.result.result(0).choices for r in requests] == alone
    assert bench.memory.calls[-1] == 4  # one place each, in one computation
    bench.check()


def test_a_request_that_is_cancelled_while_choices_are_scored_takes_no_other_with_it() -> None:
    bench = Bench()
    tree = ChoiceTree("abc", [(1, 2), (1, 3), (4,)], Letters.ends)
    requests = [bench.submit([8, i], choices=tree) for i in range(3)]

    def cancel_once() -> None:
        scoring = [n for n in bench.scheduler._scratch if bench.memory.sequences.get(n)]
        if scoring and not requests[1].cancel.is_set:
            bench.scheduler.interrupt(requests[1])

    bench.memory.before = cancel_once
    bench.run()
    with pytest.raises(Aborted):
        requests[1].result.result(0)
    expected = Bench().generate([8, 2], choices=tree).choices
    assert requests[2].result.result(0).choices == expected
    bench.check()


def test_a_run_that_asks_for_one_thing_does_not_wait_for_the_bulk_of_another() -> None:
    bench = Bench(running=2)
    bulk = [bench.submit([1, 2, i], 6, scope="bulk", ignore_ends=True) for i in range(3, 11)]
    for _ in range(4):
        bench.scheduler.step()
    one = bench.submit([9, 9], 2, scope="one", ignore_ends=True)
    while not one.result.done():
        bench.scheduler.step()
    assert sum(r.result.done() for r in bulk) <= 2


def test_two_runs_get_the_same_share_and_who_was_away_gets_no_more() -> None:
    bench = Bench(running=2)
    early = [bench.submit([1, 2, i], 8, scope="early", ignore_ends=True) for i in range(3, 15)]
    for _ in range(30):
        bench.scheduler.step()
    done = sum(r.result.done() for r in early)
    late = [bench.submit([7, 8, i], 8, scope="late", ignore_ends=True) for i in range(3, 15)]
    for _ in range(32):
        bench.scheduler.step()
    new_early, new_late = sum(r.result.done() for r in early) - done, sum(r.result.done() for r in late)
    assert abs(new_early - 2 - new_late) <= 1  # two were under way


def test_within_a_run_the_deepest_call_goes_first() -> None:
    bench = Bench(running=1)
    bench.submit([1], 2, ignore_ends=True)
    bench.scheduler.step()
    shallow, deep = bench.submit([2], 2, ignore_ends=True, depth=1), bench.submit([3], 2, ignore_ends=True, depth=2)
    while not deep.result.done():
        bench.scheduler.step()
    assert not shallow.result.done()


def test_the_order_forgets_a_run_that_has_ended() -> None:
    bench = Bench()
    for scope in ("a", "b"):
        bench.generate([1, 2], 2, scope=scope)
    assert not bench.scheduler._fair._given


class EvenTokens:
    """A mask that a reply of even tokens obeys."""

    finished = False

    def allows(self, token: int) -> bool:
        return token % 2 == 0

    def allowed(self) -> NDArray[np.bool_]:
        return np.arange(VOCAB) % 2 == 0

    def advance(self, token: int) -> None:
        assert token % 2 == 0


def test_the_time_of_a_mask_is_counted_once_for_each_token() -> None:
    bench = Bench()
    request = bench.submit([1, 2], 9, mask=EvenTokens(), ignore_ends=True)
    bench.generate([1, 3], 5, ignore_ends=True)
    assert len(request.reply) == 9
    assert "rlm_engine_mask_seconds_count 9" in bench.scheduler.metrics.text()
