"""The turn language accepts what a root may write in each state, and nothing else."""

from __future__ import annotations

import ast
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_local.errors import ConfigError
from rlm_local.grammar import AnswerSchema, TurnState, decode_turn, turn_grammar
from rlm_local.types import Cell, Final, FinalVar, GrammarMode, ReplyStop

llguidance = pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

FIRST, OPEN, LAST = TurnState.FIRST, TurnState.OPEN, TurnState.LAST
BYTES = llguidance.LLTokenizer("byte")


def accepts(state: TurnState, text: str) -> bool:
    matcher = llguidance.LLMatcher(BYTES, turn_grammar(state, "lark"))
    assert not matcher.get_error()
    tokens = BYTES.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


CODE = "```repl\nprint(len(context))\n```"

CASES = [
    # text, first, open, last
    (CODE, True, True, False),
    (f"I look at the size.\n{CODE}", True, True, False),
    (f"I look.\n\nThen I search.\n{CODE}", True, True, False),
    ("FINAL(42)", False, True, True),
    ('FINAL("30 days")', False, True, True),
    ("FINAL_VAR(count)", False, True, True),
    ("It stands in the output.\nFINAL(42)", False, True, False),
    ('FINAL(["a", "b"])', False, True, True),
    ('FINAL({"a": 1, "b": [True, None]})', False, True, True),
    ("FINAL(-1.5e3)", False, True, True),
    ("FINAL(42) and more", False, False, False),  # nothing may follow a final
    ("FINAL(answer)", False, False, False),  # a name is FINAL_VAR's business
    ('FINAL("a\nb")', False, False, False),  # a newline in a string is written \n
    (r'FINAL("a\x")', False, False, False),  # not an escape of Python
    (f"{CODE}\n{CODE}", False, False, False),  # one block a turn
    (f"{CODE}\nFINAL(1)", False, False, False),  # no final beside code whose output was not seen
    ("```repl\nx = 1", False, False, False),  # unclosed block
    ("```repl\n\n```", False, False, False),  # empty block
    ("```python\nx = 1\n```", False, False, False),
    ("only prose\n", False, False, False),
    ("a\nb\nc\nd\ne\n" + CODE, False, False, False),  # five lines of prose
    ("```repl\nx = (1\n```", False, False, False),  # an open bracket
    ("```repl\nx = (1]\n```", False, False, False),
    ("```repl\nx = 'a\n```", False, False, False),  # an open string
    ('```repl\nx = """a\n```', False, False, False),
    ('```repl\nx = """a "quoted" b\n"""\n```', True, True, False),
    ("```repl\nx = ''\ny = \"\"\n```", True, True, False),
    ("```repl\nprint(f'{x!r} {y[\"a\"]}')\n```", True, True, False),
    ("```repl\nfor x in [1,\n          2]:  # two\n    # a comment\n    print(x)\n\nprint(1)\n```", True, True, False),
    ("```repl\nx = 1 + \\\n    2\n```", True, True, False),
    ("```repl\nx = {'a': [1, (2, 3)]}\n```", True, True, False),
    ('```repl\nx = "a``b"\n```', True, True, False),
    ('```repl\nx = "```"\n```', False, False, False),  # a fence inside a string would end the block
    ("```repl\nsearch('café')\n```", True, True, False),
    ("```repl\n" + "x = 1\n\n\n\n\n" + "```", False, False, False),  # endless blank lines
]


@pytest.mark.parametrize(("text", "first", "open_", "last"), CASES)
def test_each_state_accepts_its_turns_only(text: str, first: bool, open_: bool, last: bool) -> None:
    assert (accepts(FIRST, text), accepts(OPEN, text), accepts(LAST, text)) == (first, open_, last)


@pytest.mark.parametrize("text", [text for text, _, open_, _ in CASES if open_])
def test_every_accepted_turn_decodes_to_something_that_can_be_done(text: str) -> None:
    action = decode_turn(text, ReplyStop.COMPLETE)
    assert isinstance(action, Cell | Final | FinalVar)
    if isinstance(action, Cell):
        ast.parse(action.code)


def test_an_unknown_dialect_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'yacc'"):
        turn_grammar(OPEN, "yacc", GrammarMode.PYTHON)


def test_every_rule_of_a_typed_turn_in_gbnf_is_there() -> None:
    answer = AnswerSchema({"type": "object", "properties": {"a_b": {"enum": ["x_y"]}, "c": {"type": "array"}}})
    text = turn_grammar(OPEN, "gbnf", GrammarMode.PYTHON, answer=answer) or ""
    rules = dict(line.split(" ::= ", 1) for line in text.splitlines() if " ::= " in line)
    assert rules["root"] == "prose{0,4} (block | final)"
    assert "x_y" in text
    for name, body in rules.items():
        if name in ("root", "answered", "final") or name.lower().startswith("typed"):
            bare = re.sub(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{[^}]*\}', " ", body)
            assert set(re.findall(r"[A-Za-z][\w-]*", bare)) <= rules.keys(), name


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_whatever_the_mask_lets_through_in_the_last_state_is_a_literal(random) -> None:
    """A random walk of the mask that ends is a final whose value Python can read."""
    matcher = llguidance.LLMatcher(BYTES, turn_grammar(LAST, "lark"))
    text = bytearray()
    while not matcher.is_stopped() and len(text) < 300:
        mask = matcher.compute_bitmask()
        allowed = [token for token in range(256) if mask[token // 8] >> (token % 8) & 1]
        closing = [token for token in allowed if token in b")\"]}'"]
        token = random.choice(closing if closing and len(text) > 40 else allowed)
        assert matcher.consume_token(token)
        text.append(token)
    if matcher.is_stopped():
        assert isinstance(decode_turn(text.decode("utf-8", "replace"), ReplyStop.COMPLETE), Final | FinalVar)
