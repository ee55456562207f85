"""What the prompt teaches, the grammar accepts and decoding understands are one protocol."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from rlm_local.grammar import AnswerSchema, TurnState, decode_turn, is_written_out, refusal, turn_grammar
from rlm_local.prompts import Situation, load_profile, opening_messages
from rlm_local.types import (
    AnswerProtocol,
    Cell,
    Final,
    FinalVar,
    GrammarMode,
    Malformed,
    Message,
    ReplyStop,
    Role,
)

pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

FIRST, OPEN, LAST = TurnState.FIRST, TurnState.OPEN, TurnState.LAST
FINAL, PLAIN = AnswerProtocol.FINAL, AnswerProtocol.PLAIN_FINAL
ANSWER, CALL, SUBMIT = AnswerProtocol.ANSWER, AnswerProtocol.FINAL_CALL, AnswerProtocol.SUBMIT
COMPLETE = ReplyStop.COMPLETE
MODES = [GrammarMode.SKELETON, GrammarMode.PYTHON]


@cache
def grammar_of(protocol: AnswerProtocol, state: TurnState, mode: GrammarMode, typed: bool = False) -> str:
    schema = AnswerSchema({"type": "array", "items": {"type": "integer"}}) if typed else None
    return turn_grammar(state, "lark", mode, protocol=protocol, answer=schema) or ""


def accepts(protocol: AnswerProtocol, state: TurnState, mode: GrammarMode, text: str, *, typed: bool = False) -> bool:
    return refusal(grammar_of(protocol, state, mode, typed), text.encode()) is None


def block(code: str) -> str:
    return f"```repl\n{code}\n```"


READY = '\nanswer["ready"] = True'
CASES = [
    # protocol, text, accepted when open, accepted as the last turn
    (FINAL, 'FINAL("a")', True, True),
    (FINAL, "FINAL(plain words)", False, False),
    (FINAL, block("FINAL(1)"), True, False),
    (PLAIN, "FINAL(plain words)", True, True),
    (PLAIN, "FINAL(It is Paris (France).)", True, True),
    (PLAIN, "I know.\nFINAL(1. Paris\n2. Rome)", True, False),
    (PLAIN, "FINAL()", False, False),
    (PLAIN, "FINAL(open", False, False),
    (PLAIN, "FINAL(a ```b``` c)", False, False),
    (PLAIN, "FINAL_VAR(count)", True, True),
    (ANSWER, block('answer["content"] = "a"' + READY), True, True),
    (ANSWER, block('answer["content"] = count' + READY), True, True),
    (ANSWER, block('answer["content"] = {"a": [1, None]}' + READY), True, True),
    (ANSWER, block('answer["content"] = "a"'), True, False),
    (ANSWER, block("x = 1"), True, False),
    (ANSWER, "FINAL(1)", False, False),
    (CALL, block("FINAL(-1.5)"), True, True),
    (CALL, block("FINAL(count)"), True, True),
    (CALL, block('FINAL_VAR("count")'), True, True),
    (CALL, "FINAL(1)", False, False),
    (CALL, block("print(1)"), True, False),
    (SUBMIT, block('SUBMIT("a")'), True, True),
    (SUBMIT, block("SUBMIT(answer=count)"), True, True),
    (SUBMIT, block("SUBMIT(a=1, b=2)"), True, False),
    (SUBMIT, "SUBMIT(1)", False, False),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("protocol", "text", "open_", "last"), CASES)
def test_a_turn_answers_by_its_protocol(
    protocol: AnswerProtocol, text: str, open_: bool, last: bool, mode: GrammarMode
) -> None:
    assert (accepts(protocol, OPEN, mode, text), accepts(protocol, LAST, mode, text)) == (open_, last)
    assert accepts(protocol, FIRST, mode, text) is (open_ and text.startswith("```"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("protocol", "form"),
    [
        (FINAL, "FINAL({})"),
        (PLAIN, "FINAL({})"),
        (ANSWER, '```repl\nanswer["content"] = {}\nanswer["ready"] = True\n```'),
        (CALL, "```repl\nFINAL({})\n```"),
        (SUBMIT, "```repl\nSUBMIT({})\n```"),
    ],
)
def test_a_typed_answer_is_a_literal_of_its_type_in_every_protocol(
    protocol: AnswerProtocol, form: str, mode: GrammarMode
) -> None:
    said = {one: accepts(protocol, LAST, mode, form.format(one), typed=True) for one in ("[1, 2]", '["a"]', "1")}
    assert said == {"[1, 2]": True, '["a"]': False, "1": False}
    assert accepts(protocol, LAST, mode, form.format("found"), typed=True) is protocol.is_in_code


@pytest.mark.parametrize("mode", MODES)
def test_no_block_of_a_last_turn_fails_to_compile_for_a_keyword_or_for_its_depth(mode: GrammarMode) -> None:
    for value in ("class", "[" * 300 + "]" * 300):
        assert not accepts(ANSWER, LAST, mode, block(f'answer["content"] = {value}{READY}')) or mode is MODES[0]
    assert not accepts(SUBMIT, LAST, mode, block("SUBMIT(class=1)"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("FINAL(plain words)", "plain words"),
        ("FINAL(It is Paris (France).)", "It is Paris (France)."),
        ("so:\nFINAL(1. Paris\n2. Rome (Italy))", "1. Paris\n2. Rome (Italy)"),
        ("FINAL(42)", 42),
        ('FINAL("a) b")', "a) b"),
        ("FINAL(42)\n\nI hope that this helps.", 42),
        ("FINAL(yes (in part)\n)", "yes (in part)"),
        ("FINAL([1, 2])", [1, 2]),
        ("FINAL(f'{x}')", "f'{x}'"),
    ],
)
def test_bare_text_is_an_answer_where_the_protocol_says_so(text: str, value: object) -> None:
    assert decode_turn(text, COMPLETE, PLAIN) == Final(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["FINAL(open", "FINAL(" + "a" * 30_000 + ")"])
def test_bare_text_that_does_not_end_or_is_too_long_comes_back_with_a_repair(text: str) -> None:
    action = decode_turn(text, COMPLETE, PLAIN)
    assert isinstance(action, Malformed)
    assert "FINAL" in action.reason


@pytest.mark.parametrize("protocol", AnswerProtocol)
def test_a_reply_of_prose_alone_is_told_the_protocol(protocol: AnswerProtocol) -> None:
    action = decode_turn("I think that it is 42.", COMPLETE, protocol)
    assert isinstance(action, Malformed)
    word = {ANSWER: 'answer["content"]', SUBMIT: "SUBMIT"}.get(protocol, "FINAL")
    assert word in action.reason


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ('answer["content"] = "a"\nanswer["ready"] = True', True),
        ('answer["content"] = count\nanswer["ready"] = True', False),
        ("FINAL([1, -2])", True),
        ("FINAL(len(hits))", False),
        ("FINAL(f'{x}')", False),
        ("SUBMIT(answer='a')", True),
        ("SUBMIT(answer=a)", False),
        ("FINAL_VAR('a')", False),
        ("x = 1\nFINAL(1)", False),
        ("FINAL(1", False),
    ],
)
def test_an_answer_from_code_is_written_out_when_nothing_of_it_is_computed(code: str, written: bool) -> None:
    assert is_written_out(Cell(code)) is written


FOREIGN = {
    FINAL: ("answer[", "SUBMIT", "block that"),
    PLAIN: ("answer[", "SUBMIT", "block that", 'FINAL("'),
    ANSWER: ("FINAL", "SUBMIT"),
    CALL: ("answer[", "SUBMIT"),
    SUBMIT: ("FINAL", "answer["),
}


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize("protocol", AnswerProtocol)
def test_a_prompt_teaches_one_protocol_and_every_worked_turn_obeys_it(protocol: AnswerProtocol, name: str) -> None:
    profile = load_profile(name, protocol)
    assert (profile.protocol, profile.name.split("/")[0]) == (protocol, name)
    opening = opening_messages(profile, Situation("?", ("a.txt",), 10, 5, 5, 3))
    notes = (profile.open, profile.last, profile.held, profile.unsupported, profile.empty, profile.repeated)
    told = "\n".join([*(message.content for message in opening), *notes])
    assert [word for word in (*FOREIGN[protocol], "<<", ">>") if word in told] == []
    for message in worked_replies(opening):
        text = message.content
        assert accepts(protocol, OPEN, GrammarMode.PYTHON, text), text
        action = decode_turn(text, COMPLETE, protocol)
        assert isinstance(action, Cell | Final | FinalVar)
        if isinstance(action, Cell):
            bound = {node.id for node in ast.walk(ast.parse(action.code)) if is_bound(node)}
            assert not bound & {"FINAL", "FINAL_VAR", "SUBMIT", *(["answer"] if protocol is ANSWER else [])}


def is_bound(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def worked_replies(opening: tuple[Message, ...]) -> list[Message]:
    return [message for message in opening if message.role is Role.ASSISTANT]
