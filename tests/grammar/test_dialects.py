"""Every dialect written from the source judges the table of cells alike, and typed answers too."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rlm_local.grammar import AnswerSchema, TurnState, refusal, turn_grammar
from rlm_local.types import AnswerProtocol, GrammarMode
from tests.grammar.cells import ACCEPTED, NAMED_TWICE, REFUSED
from tests.grammar.test_answer import CASES
from tests.grammar.test_turn_language import CASES as TURNS

pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")
pytest.importorskip("llama_cpp", reason="llama-cpp-python comes with the extra 'llama'")

from bench.gbnf import Gbnf
from bench.grammar_dialects import XGRAMMAR_PYTHON, gbnf_judge, xgrammar_side

FORMS = {
    AnswerProtocol.FINAL: "FINAL({})",
    AnswerProtocol.ANSWER: '```repl\nanswer["content"] = {}\nanswer["ready"] = True\n```',
    AnswerProtocol.FINAL_CALL: "```repl\nFINAL({})\n```",
    AnswerProtocol.SUBMIT: "```repl\nSUBMIT({})\n```",
}


@pytest.mark.slow
def test_llama_cpp_judges_cells_as_the_table_does() -> None:
    judge = gbnf_judge()
    table = [(cell, True) for cell in ACCEPTED + NAMED_TWICE] + [(cell, False) for cell in REFUSED]
    assert [cell for cell, wanted in table if judge.accepts(f"```repl\n{cell}\n```") is not wanted] == []


# Lark takes these too, but none compiles, or what it means depends on where a lexeme ends.
SKELETON_REFUSES = ['x = "a""b"', "x = ''"]


@pytest.mark.parametrize("at", range(3))
def test_llama_cpp_judges_turns_of_the_skeleton_as_the_cases_do(at: int) -> None:
    state = list(TurnState)[at]
    judge = Gbnf(turn_grammar(state, "gbnf", GrammarMode.SKELETON) or "")
    assert [case[0] for case in TURNS if judge.accepts(case[0]) is not case[1 + at]] == []


@pytest.mark.slow
def test_llama_cpp_judges_cells_by_the_skeleton_as_lark_does() -> None:
    judge = Gbnf(turn_grammar(TurnState.FIRST, "gbnf", GrammarMode.SKELETON) or "")
    lark = turn_grammar(TurnState.FIRST, "lark", GrammarMode.SKELETON) or ""
    cells = [f"```repl\n{cell}\n```" for cell in ACCEPTED + NAMED_TWICE + REFUSED]
    said = {cell: (judge.accepts(cell), refusal(lark, cell.encode()) is None) for cell in cells}
    assert [cell for cell, (one, other) in said.items() if one is not other] == []
    assert sum(one for one, _ in said.values()) > len(ACCEPTED)


def test_the_skeleton_without_lexemes_cannot_take_an_open_string_for_two_closed_ones() -> None:
    judge = Gbnf(turn_grammar(TurnState.FIRST, "gbnf", GrammarMode.SKELETON) or "")
    open_strings = ['x = """a" b', "x = '''a' + 'b'", 'f("""a", "b")', 'x = "a"""b"']
    assert [code for code in open_strings if judge.accepts(f"```repl\n{code}\n```")] == []


@pytest.mark.parametrize("protocol", FORMS)
def test_llama_cpp_judges_typed_answers_as_the_cases_do(protocol: AnswerProtocol) -> None:
    wrong: list[Any] = []
    judges: dict[str, Gbnf] = {}
    for schema, literal, accepted, _ in CASES:
        judge = judges.get(repr(schema)) or Gbnf(last_turn(protocol, AnswerSchema(schema)))
        judges[repr(schema)] = judge
        if judge.accepts(FORMS[protocol].format(literal)) is not accepted:
            wrong.append((schema, literal))
        assert not judge.accepts(FORMS[protocol].format(literal) + " ")
    assert wrong == []


def test_llama_cpp_reads_bare_text_as_the_rules_say() -> None:
    judge = Gbnf(last_turn(AnswerProtocol.PLAIN_FINAL, None))
    said = {text: judge.accepts(text) for text in ("FINAL(It is (so).)", "FINAL()", "FINAL_VAR(a)", "FINAL(a```b)")}
    assert list(said.values()) == [True, False, True, False]


def last_turn(protocol: AnswerProtocol, schema: AnswerSchema | None) -> str:
    return turn_grammar(TurnState.LAST, "gbnf", GrammarMode.PYTHON, protocol=protocol, answer=schema) or ""


@pytest.mark.parametrize("mode", [GrammarMode.SKELETON, GrammarMode.PYTHON])
def test_no_escape_can_be_read_longer_than_it_is(mode: GrammarMode) -> None:
    """To xgrammar `\\x1FF` is one character: it reads as many hexadecimal digits as there are."""
    typed = AnswerSchema({"type": "string"})
    text = turn_grammar(TurnState.OPEN, "ebnf", mode, answer=typed) or ""
    assert "\\u001F" in text
    assert re.findall(r"\\x[0-9A-Fa-f]{3}", text) == []


@pytest.mark.skipif(not XGRAMMAR_PYTHON.is_file(), reason="no .venv-xgrammar; `make xgrammar` makes it")
def test_xgrammar_judges_cells_as_the_table_does() -> None:
    cells = ACCEPTED + NAMED_TWICE + REFUSED
    said = xgrammar_side({"texts": [f"```repl\n{cell}\n```" for cell in cells]}, XGRAMMAR_PYTHON)["accepted"]
    wanted = [cell not in REFUSED for cell in cells]
    assert [cell for cell, one, want in zip(cells, said, wanted, strict=True) if one is not want] == []


@pytest.mark.skipif(not XGRAMMAR_PYTHON.is_file(), reason="no .venv-xgrammar; `make xgrammar` makes it")
def test_xgrammar_judges_a_typed_answer_as_the_cases_do() -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}
    texts = [f"FINAL({literal})" for literal in ("[1, 2]", "[]", "[1, 2, 3]", '["a"]')]
    request = {"grammar": last_turn(AnswerProtocol.FINAL, AnswerSchema(schema)), "texts": texts}
    assert xgrammar_side(request, XGRAMMAR_PYTHON)["accepted"] == [True, False, False, False]
