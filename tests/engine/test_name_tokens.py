"""The mask of the turn language strikes exactly the tokens that would name something twice."""

from __future__ import annotations

import pytest

from rlm_local.errors import EngineRefused
from rlm_local.grammar import TurnState, turn_grammar
from rlm_local.types import GrammarMode

llguidance = pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

from rlm_local.engine.llama.mask import Constraint, Dialect, Grammars, Mask  # noqa: E402 - it imports llguidance

BYTES = llguidance.LLTokenizer("byte")
END = BYTES.eos_token
GRAMMARS = Grammars(lambda: BYTES, ends=frozenset({END}), vocab_size=BYTES.vocab_size)
PYTHON = Constraint(Dialect.GRAMMAR, turn_grammar(TurnState.FIRST, "lark", GrammarMode.PYTHON) or "")


def mask_after(code: str) -> Mask:
    mask = GRAMMARS.mask(PYTHON)
    for token in BYTES.tokenize_str(f"```repl\n{code}"):
        assert mask.allows(token)
        mask.advance(token)
    return mask


@pytest.mark.parametrize(
    ("code", "next_", "allowed"),
    [
        ("def f(a, a", ",", False),
        ("def f(a, a", "b", True),
        ("def f(a, *a", ")", False),
        ("def f(a, *, b, **a", ")", False),
        ("def f(a: int, b=f(a=1), a", ":", False),
        ("class A:\n    def f(self, self", ")", False),
        ("lambda a, a", ":", False),
        ("f(lambda a: 0, lambda a", ":", True),
        ("lambda a=(lambda a: 0), a", ":", False),
        ("f(a=1, a", "=", False),
        ("f(a=1, a", " ", False),
        ("f(a=1, ab", "=", True),
        ("f(a, a", "=", True),  # the first is no keyword
        ("f(a == 1, a", "=", True),
        ("f(a=1, b=a", ",", True),
        ("f(a=1, b=g(a", "=", True),  # another call
        ("f(**b, a=1, **c, a", "=", False),
        ("f(a=1)(a", "=", True),
        ("class A(a=1, a", "=", False),
        ('print(f"{f(a=1, a', "=", False),
        ("print(f\"{x!r:>{w}} {f(a=','", ")", True),
        ("print(f\"{{{f(a=' ', a", "=", False),
        ('f(a="\\", a=", a', "=", False),
        ('f(a=""" "", a=""", a', "=", False),
        ('f(a="", b', "=", True),
        ("f(a=1,  # a comment, a=\n  a", "=", False),
        ("f(a=1,  # a comment, b=\n  b", "=", True),
        ("x = [a, a", ",", True),
        ("def g(): return f(a, a", ",", True),
    ],
)
def test_a_name_that_its_list_has_may_not_end(code: str, next_: str, allowed: bool) -> None:
    mask = mask_after(code)
    assert mask.allows(ord(next_)) is allowed
    assert mask.allowed()[ord(next_)] == allowed
    assert mask.allowed().any()  # never a dead end


# Tokens as other vocabularies have them: across a name's borders, and several names in one.
PIECES = [bytes((byte,)) for byte in range(256)] + [b"<end>"] + [
    b"a,", b"a=", b" a,", b", a,", b",a=", b"b,", b"bc,", b"*a,", b", *a)", b"\n    a=", b",#a\n a=", b",#b\n a ",
    b"lambda a,a:", b"(a,a", b"a==", b"ab", b"b", b"),a=", b"', a=", b'", a=', b"a, a=", b"aa", b"a}", b"a b", b"=a,a",
]  # fmt: skip


class Vocabulary:
    """What llguidance wants to know of a vocabulary."""

    tokens = PIECES
    eos_token_id = PIECES.index(b"<end>")
    bos_token_id = None
    special_token_ids = (eos_token_id,)

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


OWN = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Vocabulary()))
OWN_GRAMMARS = Grammars(lambda: OWN, ends=frozenset({Vocabulary.eos_token_id}), vocab_size=len(PIECES))


@pytest.mark.parametrize(
    "code",
    [
        "f(a=1", "f(a=1,", "f(a=1, a", "f(a=1, b=2, ", "def f(a", "def f(a,", "def f(a, ", "def f(ab, a, a", "f(a, ",
        "x = lambda a", "x = lambda a, ", "f('a", "f(a='", "f(a=f'{", "f(a=f'{x", "f(a=1, *", "def f(a, *", "x = ",
        "f(**a, a=1,\n", "x = 1  # f(a=1,", "x = f'{f(a=1, ", "f(b=1, a=lambda a, ", "f(a=a", "f(a=[a",
    ],
)  # fmt: skip
def test_striking_tokens_in_bulk_is_the_same_as_trying_each(code: str) -> None:
    mask = OWN_GRAMMARS.mask(PYTHON)
    for byte in f"```repl\n{code}".encode():
        mask.advance(byte)
    together = mask.allowed()
    assert [bool(one) for one in together] == [mask.allows(token) for token in range(len(PIECES))]


def test_a_condition_that_is_not_known_is_refused() -> None:
    with pytest.raises(EngineRefused, match="no vowels"):
        GRAMMARS.mask(Constraint(Dialect.GRAMMAR, '// condition: no vowels\nstart: "x"'))
