"""The grammar of whole turns lets through only blocks that compile, and the code that roots write."""

from __future__ import annotations

import re
import warnings
from random import Random

import pytest

from grammars.build import ROOM, generated
from grammars.derive import Deriver
from grammars.language import read_language
from rlm_local.grammar import TurnState, turn_grammar
from rlm_local.grammar.distinct import DistinctNames
from rlm_local.types import GrammarMode
from tests.grammar.cells import ACCEPTED, NAMED_TWICE, REFUSED

llguidance = pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

BYTES = llguidance.LLTokenizer("byte")
FIRST = llguidance.LLMatcher(BYTES, turn_grammar(TurnState.FIRST, "lark", GrammarMode.PYTHON))


def accepts(code: str) -> bool:
    return rules_accept(code) and DistinctNames().feed(f"```repl\n{code}\n```".encode())


def rules_accept(code: str) -> bool:
    matcher = FIRST.deep_copy()
    tokens = BYTES.tokenize_str(f"```repl\n{code}\n```")
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def test_the_generated_files_are_up_to_date() -> None:
    for name, text in generated().items():
        assert (ROOM / name).read_text(encoding="utf-8") == text, "run `python -m grammars.build`"


@pytest.mark.parametrize("code", ACCEPTED)
def test_what_roots_write_is_accepted(code: str) -> None:
    compile(code, "<cell>", "exec")
    assert accepts(code)


@pytest.mark.parametrize("code", REFUSED)
def test_what_does_not_compile_is_refused(code: str) -> None:
    with pytest.raises(SyntaxError):
        compile(code, "<cell>", "exec")
    assert not accepts(code)


@pytest.mark.parametrize("code", NAMED_TWICE)
def test_a_name_twice_in_a_list_is_what_the_rules_let_through_and_the_condition_refuses(code: str) -> None:
    with pytest.raises(SyntaxError):
        compile(code, "<cell>", "exec")
    assert rules_accept(code)
    assert not accepts(code)


def _complaint(code: str) -> str:
    try:
        compile(code, "<cell>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return str(error)
    return ""


def test_random_sentences_compile_unless_a_name_stands_twice_in_a_list() -> None:
    deriver = Deriver(read_language(), Random(0))
    for _ in range(1_000):
        block = deriver.sentence("block", 40)
        code = block.removeprefix("```repl\n").removesuffix("\n```")
        assert rules_accept(code), code
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # `1 is 1` is odd, and Python
            said = _complaint(code)
        if DistinctNames().feed(block.encode()):
            assert not said, code
        else:
            assert re.match("duplicate argument|keyword argument repeated", said), code
