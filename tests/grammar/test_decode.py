"""Decoding says what a turn asks for, whatever the engine let through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_local.grammar import decode_turn
from rlm_local.types import Action, Cell, Final, FinalVar, Malformed, ReplyStop

COMPLETE, LENGTH = ReplyStop.COMPLETE, ReplyStop.LENGTH


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("```repl\nx = 1\n```", Cell("x = 1")),
        ("prose\n```python\nx = 1\n```\nmore", Cell("x = 1")),
        ("```repl\nx = 1\n```\nFINAL(2)", Cell("x = 1")),  # the output was not seen yet
        ('FINAL("a (b) c")', Final("a (b) c")),
        ("so:\nFINAL([1, 2])", Final([1, 2])),
        ("FINAL((1, 2))", Final([1, 2])),
        ("FINAL({1: 'a'})", Final({"1": "a"})),
        ("FINAL_VAR(count)", FinalVar("count")),
        ('FINAL_VAR("count")', FinalVar("count")),
    ],
)
def test_a_turn_is_what_it_asks_for(text: str, action: Action) -> None:
    assert decode_turn(text, COMPLETE) == action


@pytest.mark.parametrize(
    ("text", "stop", "hint"),
    [
        ("I think the answer is 42", COMPLETE, "one ```repl block"),
        ("```repl\nx = [1, 2,", LENGTH, "too long"),
        ("```repl\n\n```", COMPLETE, "empty"),
        ("FINAL(count)", COMPLETE, "Python literal"),
        ("FINAL(" + "[" * 5_000 + "]" * 5_000 + ")", COMPLETE, "Python literal"),
        ('FINAL("' + "a" * 200_000 + '")', COMPLETE, "FINAL_VAR"),
    ],
)
def test_what_cannot_be_done_comes_back_with_a_repair(text: str, stop: ReplyStop, hint: str) -> None:
    action = decode_turn(text, stop)
    assert isinstance(action, Malformed)
    assert hint in action.reason


def test_a_block_that_closed_counts_even_when_the_token_limit_fell_on_its_fence() -> None:
    assert decode_turn("```repl\nx = 1\n```", LENGTH) == Cell("x = 1")


@given(st.text(), st.sampled_from(ReplyStop))
def test_no_text_breaks_the_decoder(text: str, stop: ReplyStop) -> None:
    assert isinstance(decode_turn(text, stop), Cell | Final | FinalVar | Malformed)
