"""Decoding says what a turn asks for, whatever the engine let through."""

from __future__ import annotations

import time

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
        # what models write when no grammar holds them
        ("```\nx = 1\n```", Cell("x = 1")),
        ("```Python\r\nx = 1\r\ny = 2\r\n```", Cell("x = 1\ny = 2")),
        ("```repl\nx = 1", Cell("x = 1")),
        ("```repl\nprint(1)```", Cell("print(1)")),
        ('```json\n{"a": 1}\n```\nFINAL(1)', Final(1)),
        ("```text\nFINAL(2)\n```\nFINAL(1)", Final(1)),
        ("FINAL(42)\n\nI hope that this helps (really).", Final(42)),
        ("  FINAL(\n  [1,\n   2]\n)", Final([1, 2])),
        ('FINAL("a) b")', Final("a) b")),
        ('SUBMIT("a")', Final("a")),
        ("SUBMIT(answer=[1])", Final([1])),
        ("SUBMIT(answer=1, why='so')", Final({"answer": 1, "why": "so"})),
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
        ("FINAL(It's 42)", COMPLETE, "Python literal"),
        ("FINAL(1, 2", COMPLETE, "Python literal"),
        ("SUBMIT(1, b=2)", COMPLETE, "Python literal"),
        ("SUBMIT()", COMPLETE, "Python literal"),
        ("FINAL_VAR(a + b)", COMPLETE, "name of one variable"),
    ],
)
def test_what_cannot_be_done_comes_back_with_a_repair(text: str, stop: ReplyStop, hint: str) -> None:
    action = decode_turn(text, stop)
    assert isinstance(action, Malformed)
    assert hint in action.reason


def test_a_block_that_closed_counts_even_when_the_token_limit_fell_on_its_fence() -> None:
    assert decode_turn("```repl\nx = 1\n```", LENGTH) == Cell("x = 1")


LONG = 90_000


@pytest.mark.parametrize(
    "text",
    [
        "FINAL(\n" * LONG,
        "FINAL(" + ") " * LONG,
        "FINAL(f'" + "{x}" * LONG + "')",  # CPython 3.11 takes quadratic time for such an f-string
        "FINAL(" + "-" * LONG + "1)",
        "FINAL(" + "1+" * LONG + "1)",
        "FINAL([" + "1," * LONG + "])",
        "SUBMIT(" + "a=1," * LONG + ")",
        "```json\n" * LONG,
        "```repl\n" + "`" * LONG,
    ],
    ids=lambda text: text[:12],
)
def test_a_hostile_text_costs_time_in_proportion_only(text: str) -> None:
    began = time.process_time()
    assert isinstance(decode_turn(text, COMPLETE), Cell | Final | FinalVar | Malformed)
    assert time.process_time() - began < 1


PIECES = st.sampled_from(
    ["```repl\n", "```", "\n", "FINAL(", "FINAL_VAR(", "SUBMIT(", ")", '"', "'", "[", "{", "x", "1"]
)


@given(st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=3))).map("".join)), st.sampled_from(ReplyStop))
def test_no_text_breaks_the_decoder(text: str, stop: ReplyStop) -> None:
    assert isinstance(decode_turn(text, stop), Cell | Final | FinalVar | Malformed)
