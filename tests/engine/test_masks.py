"""Masks over llguidance's tokenizer of bytes, which needs no weights: tokens 0..255 are bytes, one more ends."""

from __future__ import annotations

import random

import numpy as np
import pytest
from llguidance import LLTokenizer

from rlm_local.engine.llama.mask import Constraint, Dialect, Grammars
from rlm_local.errors import EngineRefused

TURN = """
start: PROSE? "```repl\\n" code "```"
PROSE: /[^`\\n]{1,120}\\n/
code: LINE+
LINE: /[^`\\n]{1,60}\\n/
"""


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    tokenizer = LLTokenizer("byte")
    return Grammars(lambda: tokenizer, ends=frozenset({tokenizer.eos_token}), vocab_size=tokenizer.vocab_size)


def test_checking_one_token_agrees_with_the_whole_mask(grammars: Grammars) -> None:
    chance = random.Random(0)
    mask = grammars.mask(Constraint(Dialect.GRAMMAR, TURN))
    for _ in range(30):
        allowed = mask.allowed()
        some = range(len(allowed))
        assert [mask.allows(token) for token in some] == [bool(allowed[token]) for token in some]
        nexts = np.flatnonzero(allowed).tolist()
        mask.advance(chance.choice([t for t in nexts if t not in mask._ends] or nexts))
        if mask.finished:
            return


def test_an_end_token_is_allowed_only_where_the_grammar_accepts(grammars: Grammars) -> None:
    mask = grammars.mask(Constraint(Dialect.REGEX, "a{2,3}"))
    accepts = []
    for _ in range(3):
        accepts.append([mask.allows(end) for end in mask._ends])
        assert [bool(mask.allowed()[end]) for end in mask._ends] == accepts[-1]
        token = next(t for t in np.flatnonzero(mask.allowed()) if t not in mask._ends and t == ord("a"))
        mask.advance(int(token))
    assert [all(row) for row in accepts] == [False, False, True]
    assert [any(row) for row in accepts] == [False, False, True]
    assert mask.finished


def test_masks_of_one_grammar_do_not_share_their_place(grammars: Grammars) -> None:
    constraint = Constraint(Dialect.REGEX, "ab")
    first = grammars.mask(constraint)
    first.advance(next(int(t) for t in np.flatnonzero(first.allowed()) if t == ord("a")))
    assert not np.array_equal(first.allowed(), grammars.mask(constraint).allowed())


@pytest.mark.parametrize(
    ("constraint", "sentence"),
    [
        (Constraint(Dialect.GRAMMAR, 'start: "a" "b"'), "ab"),
        (Constraint(Dialect.REGEX, "[0-9]{3}"), "123"),
        (Constraint(Dialect.JSON, '{"enum": ["x"]}'), '"x"'),
        (Constraint(Dialect.CHOICE, '["grün", "a\\"b"]'), "grün"),
    ],
    ids=[*Dialect][:4],
)
def test_every_dialect_is_finished_by_its_sentence(grammars: Grammars, constraint: Constraint, sentence: str) -> None:
    mask = grammars.mask(constraint)
    for byte in sentence.encode():
        assert not mask.finished
        assert mask.allows(byte)
        mask.advance(byte)
    assert mask.finished


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint(Dialect.GRAMMAR, "start: nowhere"),
        Constraint(Dialect.GRAMMAR, ""),
        Constraint(Dialect.REGEX, "(("),
        Constraint(Dialect.JSON, "no schema"),
        Constraint(Dialect.JSON, '{"type": "nothing"}'),
    ],
)
def test_what_does_not_compile_is_refused_with_the_compilers_words(grammars: Grammars, constraint: Constraint) -> None:
    with pytest.raises(EngineRefused, match=f"the {constraint.dialect} does not compile: .+"):
        grammars.mask(constraint)


def test_a_token_that_was_never_allowed_is_an_error_and_not_a_wrong_mask(grammars: Grammars) -> None:
    mask = grammars.mask(Constraint(Dialect.REGEX, "ab"))
    with pytest.raises(EngineRefused, match="while the reply was written"):
        mask.advance(ord("x"))
