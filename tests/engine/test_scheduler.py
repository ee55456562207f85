"""Whole requests, many at a time: who goes first, who waits, who is refused, and how each ends."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rlm_local.engine.llama.interrupt import Aborted, DeadlinePassed
from rlm_local.engine.llama.pace import ESTABLISHED
from rlm_local.errors import EngineRefused
from rlm_local.types import ReplyStop
from tests.engine.list_memory import VOCAB, Bench


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


def test_a_fan_out_is_read_in_whole_pieces_until_its_first_replies_are_established(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what the replies have earned, nothing might be read before the first ones have ended."""
    bench = Bench()
    monkeypatch.setattr(bench.scheduler._pace, "_read_s", 1.0)
    monkeypatch.setattr(bench.scheduler._pace, "_earned_s", -1000.0)
    calls = [bench.submit([i, 1, 2, 3, 4], 20, ignore_ends=True) for i in range(6, 12)]  # three computations
    while not all(call.is_admitted and call.is_read for call in calls):
        bench.scheduler.step()
    assert max(len(call.reply) for call in calls) <= ESTABLISHED
    for _ in range(ESTABLISHED):
        bench.scheduler.step()
    late = bench.submit([20] * 40, 1)
    for _ in range(5):
        bench.scheduler.step()
    assert late.is_admitted
    assert not late.is_read


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


def test_a_reply_ends_at_an_end_token_or_at_its_length() -> None:
    bench = Bench()
    stops = {bench.generate([i, j], 20).stop for i in range(1, 8) for j in range(1, 8)}
    assert stops == {ReplyStop.COMPLETE, ReplyStop.LENGTH}


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
