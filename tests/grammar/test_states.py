"""What a node may do besides its state: recurse, import, answer with a type. All of it composes."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest

from rlm_local.errors import ConfigError
from rlm_local.grammar import AnswerSchema, TurnState, refusal, turn_grammar
from rlm_local.types import AnswerProtocol, GrammarMode

pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

FIRST = TurnState.FIRST
MODES = [GrammarMode.SKELETON, GrammarMode.PYTHON]
INTEGER = AnswerSchema({"type": "integer"})


@cache
def grammar_of(mode: GrammarMode, *, may_recurse: bool = True, imports: tuple[str, ...] | None = None) -> str:
    return turn_grammar(FIRST, "lark", mode, may_recurse=may_recurse, imports=imports) or ""


def accepts(grammar: str, code: str) -> bool:
    return refusal(grammar, f"```repl\n{code}\n```".encode()) is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        ('rlm_query("a")', False),
        ('x = [rlm_query("a")]', False),
        ("x=rlm_query_batched(prompts)", False),
        ("answers = list(map(rlm_query, prompts))", False),
        ("ask = rlm_query", False),
        ('llm_query("a")', True),
        ("llm_query_batched(prompts)", True),
        ("rlm_query2 = my_rlm_query(1)", True),
        ("print('rlm_query is not here')  # nor rlm_query", True),
    ],
)
def test_a_node_that_may_not_recurse_has_no_names_for_it(code: str, leaf: bool, mode: GrammarMode) -> None:
    assert accepts(grammar_of(mode), code)
    assert accepts(grammar_of(mode, may_recurse=False), code) is leaf


def test_a_leaf_has_the_same_names_in_gbnf() -> None:
    free, leaf = (turn_grammar(FIRST, "gbnf", MODES[1], may_recurse=may) or "" for may in (True, False))
    assert "LEAF-NAME ::=" in free
    assert "LEAF-NAME ::=" not in leaf
    assert free.count("\nNAME ::= ") == leaf.count("\nNAME ::= ") == 1


@pytest.mark.parametrize(
    ("code", "listed"),
    [
        ("import re\nx = 1", True),
        ("import re", True),
        ("import math, random; random.seed(0)", True),
        ("import re; import json;\nx = 1", True),
        ("from concurrent.futures import ThreadPoolExecutor\nx = 1", True),
        ("import os\nx = 1", False),
        ("x = 1\nimport re", False),
        ("import re; for x in y: pass", False),
    ],
)
def test_a_list_of_imports_is_kept_where_a_node_has_one(code: str, listed: bool) -> None:
    assert accepts(grammar_of(MODES[1], imports=("standard",)), code) is listed
    assert accepts(grammar_of(MODES[0], imports=("standard",)), code)  # words have no meaning there


def test_a_list_of_imports_may_have_more_than_the_standard() -> None:
    held = grammar_of(MODES[1], imports=("standard", "numpy"))
    assert accepts(held, "import numpy as np, re\nx = 1")
    with pytest.raises(ConfigError, match="no module's name"):
        grammar_of(MODES[1], imports=("a b",))


@pytest.mark.parametrize("mode", MODES)
def test_every_state_composes_with_every_other(mode: GrammarMode) -> None:
    """Each grammar compiles, and says no to a text that none allows."""
    for state, protocol, answer, leaf, imports in product(
        TurnState, AnswerProtocol, (None, INTEGER), (True, False), (None, ("standard",))
    ):
        if mode is GrammarMode.PYTHON and (leaf or imports is None):
            continue  # other tests compile these, and each takes a fifth of a second
        grammar = turn_grammar(state, "lark", mode, protocol=protocol, answer=answer, may_recurse=leaf, imports=imports)
        assert refusal(grammar or "", b"FINAL(") is not None
        code = refusal(grammar or "", b"```repl\nx = 1\n```") is None
        assert code is (state is not TurnState.LAST), (state, protocol)
