"""A list that was printed by its name is answered with by that: where it is long, or where an answer is not in it."""

from __future__ import annotations

import pytest

from rlm_local.controller.printed_value import LONG_CHARS, long_value, plain_value
from rlm_local.testing import ScriptedEngine, ScriptedRepl
from rlm_local.types import Cell, CellResult, CellStatus, Final, Turn, Usage
from tests.controller.asking import LOOK, ask

PAIRS = str([(at, at + 1) for at in range(200)])


def turn(code: str, printed: str, **result: object) -> Turn:
    return Turn(code, Cell(code), Usage(), CellResult(CellStatus.OK, printed, **result))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "printed", "name"),
    [
        ("pairs = 1\nprint(pairs)", f"table: 9 rows\n{PAIRS}\n", "pairs"),
        ("print(pairs)", "[1, 2]\n", ""),
        ("print(found)", "rules.txt line 1: The fee is 30 euros. " * 40, ""),
        ("print(pairs[:500])", PAIRS, ""),
        ("print(pairs, 1)", PAIRS, ""),
        ("print(pairs)\ndone = True", PAIRS, ""),
        ("print(", PAIRS, ""),
        ("print(answer)", "It is due on the third day, as the parties agreed. " * 20 + "(see clause 4)", ""),
        ("print(counts)", f"Counter({PAIRS})", "counts"),
    ],
)
def test_a_long_list_that_was_printed_last_is_known_by_its_name(code: str, printed: str, name: str) -> None:
    assert len(PAIRS) > LONG_CHARS
    assert long_value(turn(code, printed)) == name


def test_what_was_cut_is_long_whatever_is_left_of_it() -> None:
    assert long_value(turn("print(pairs)", "[(1, 2), ", stdout_tail=" (8, 9)]\n", truncated_bytes=90_000)) == "pairs"


def test_a_short_value_behind_much_else_is_short() -> None:
    assert long_value(turn("print(hits)", "line\n" * 9, stdout_tail="line\n[3, 4]\n", truncated_bytes=90_000)) == ""


async def test_the_model_is_told_how_to_answer_with_it() -> None:
    engine = ScriptedEngine(["```repl\npairs = work()\nprint(pairs)\n```", "FINAL_VAR(pairs)"], window_tokens=32_000)
    given = CellResult(CellStatus.OK, "", final=Final([[1, 2]]))
    answer = await ask(engine, ScriptedRepl([PAIRS, given]))
    assert (answer.value, answer.confirmed) == ([[1, 2]], True)
    assert "do not write it again:\nFINAL_VAR(pairs)" in engine.completions[1].messages[-1].content


async def test_of_a_short_one_nothing_is_said() -> None:
    engine = ScriptedEngine([LOOK, 'FINAL("30 euros")'])
    await ask(engine, ScriptedRepl(["The fee is 30 euros.\n"]))
    assert "do not write it again" not in engine.completions[1].messages[-1].content


@pytest.mark.parametrize(
    ("code", "printed", "name"),
    [
        ("print(hits)", "3 documents\n['Ada', 'Ben']\n", "hits"),
        ("print(days)", "{'Ada': 3}\n", "days"),
        ("print(hits)", "[]\n", ""),
        ("print(hits)", "[Passage('a.txt', 3)]\n", ""),
        ("print(count)", "12\n", ""),
        ("print(len(hits))", "[1]\n", ""),
    ],
)
def test_names_and_numbers_that_were_printed_whole_are_known_by_their_variable(
    code: str, printed: str, name: str
) -> None:
    assert plain_value([turn("print(1)", "1\n"), turn(code, printed)]) == name


def test_a_value_that_was_cut_is_none() -> None:
    assert plain_value([turn("print(hits)", "[0, ", stdout_tail="[1, 2]", truncated_bytes=90_000)]) == ""


async def test_an_answer_that_is_not_in_the_list_that_was_printed_is_told_of_its_variable() -> None:
    turns = ["```repl\nhits = work()\nprint(hits)\n```", 'FINAL("Hypertension")', "FINAL_VAR(hits)"]
    engine = ScriptedEngine(turns, window_tokens=32_000)
    given = CellResult(CellStatus.OK, "", final=Final(["Ada", "Ben"]))
    answer = await ask(engine, ScriptedRepl(["['Ada', 'Ben']\n", given]))
    assert (answer.value, answer.confirmed) == (["Ada", "Ben"], True)
    told = engine.completions[2].messages[-1].content
    assert "Nothing that was printed says Hypertension." in told
    assert "FINAL_VAR(hits)" in told


async def test_that_there_is_nothing_is_sent_to_look_whatever_list_was_printed() -> None:
    turns = ["```repl\nhits = work()\nprint(hits)\n```", 'FINAL("not in the documents")', LOOK, 'FINAL("30 euros")']
    engine = ScriptedEngine(turns, window_tokens=32_000)
    await ask(engine, ScriptedRepl(["['Ada', 'Ben']\n", "The fee is 30 euros.\n"]))
    assert "FINAL_VAR(hits)" not in engine.completions[2].messages[-1].content
