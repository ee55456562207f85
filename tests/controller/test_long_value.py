"""A list that is too long to be written again is answered with by its name."""

from __future__ import annotations

import pytest

from rlm_local.controller.long_value import LONG_CHARS, long_value
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
