"""A crashed engine is started at once, then ever later, and at once again when it has answered."""

from __future__ import annotations

from rlm_local.engine.backoff import FIRST_S, MOST_S, Backoff


def test_restarts_without_an_answer_wait_twice_as_long_each_time_up_to_a_bound() -> None:
    now = 0.0
    backoff = Backoff(lambda: now)
    assert backoff.wait_s == 0
    waits = []
    for _ in range(40):
        backoff.restarted()
        waits.append(backoff.wait_s)
        now += backoff.wait_s
        assert backoff.wait_s == 0
    assert waits[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert waits[6:] == [MOST_S] * 34


def test_an_answer_forgives() -> None:
    now = 0.0
    backoff = Backoff(lambda: now)
    for _ in range(3):
        backoff.restarted()
    backoff.answered()
    assert backoff.wait_s == 0
    backoff.restarted()
    assert backoff.wait_s == FIRST_S
