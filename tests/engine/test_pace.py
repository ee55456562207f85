"""How prompts and replies share the time, on a model whose computations cost what they cost on paper."""

from __future__ import annotations

import pytest

from rlm_local.engine.llama.pace import Pace

MOST = 256


def reading_cost(tokens: int) -> float:
    """Seconds: like 1.5B weights on 2 cores, where a computation costs 0.37 s however few its tokens are."""
    return 0.37 + 0.0065 * tokens


def beside(pace: Pace, *, prompt: int, write_s: float, writers: int = 4) -> tuple[int, float, float]:
    """Read a prompt beside writers; return their tokens, the seconds that it took, the longest stand-still."""
    written, clock, longest = 0, 0.0, 0.0
    while prompt:
        clock += write_s
        written += 1
        pace.took(writers, write_s, writing=True)
        if tokens := min(prompt, pace.prompt_tokens(writers=writers, readers=1, unread=prompt)):
            prompt -= tokens
            clock += reading_cost(tokens)
            longest = max(longest, reading_cost(tokens))
            pace.took(tokens, reading_cost(tokens), writing=False)
    return written, clock, longest


@pytest.mark.parametrize("write_s", [0.04, 0.14, 0.6])
def test_a_reply_takes_at_most_three_times_as_long_beside_a_long_prompt(write_s: float) -> None:
    pace = Pace(MOST)
    beside(pace, prompt=300, write_s=write_s)  # so that it knows what a token costs
    written, clock, longest = beside(pace, prompt=3000, write_s=write_s)
    assert clock / written <= 3 * write_s
    assert longest < 1.3


def test_a_prompt_beside_replies_is_read_at_half_its_speed_alone_at_least() -> None:
    pace = Pace(MOST)
    _, clock, _ = beside(pace, prompt=3000, write_s=0.14)
    alone = reading_cost(MOST) * 3000 / MOST
    assert clock < 2.5 * alone


def test_nobody_waiting_means_no_bound() -> None:
    assert Pace(MOST).prompt_tokens(writers=0, readers=1, unread=3000) == MOST


def test_a_fan_out_is_read_before_its_first_replies_go_on() -> None:
    pace = Pace(MOST)
    pace.took(MOST, reading_cost(MOST), writing=False)
    assert pace.prompt_tokens(writers=1, readers=31, unread=500) == MOST
    assert pace.prompt_tokens(writers=1, readers=31, unread=50_000) == 0  # that would be a minute


def test_reading_while_nobody_writes_is_not_held_against_the_next_prompt() -> None:
    pace = Pace(MOST)
    pace.prompt_tokens(writers=0, readers=1, unread=3000)
    pace.took(MOST, reading_cost(MOST), writing=False)
    for _ in range(5):
        pace.took(4, 0.14, writing=True)
    assert pace.prompt_tokens(writers=4, readers=1, unread=100) > 0
