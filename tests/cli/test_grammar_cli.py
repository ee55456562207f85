"""`rlm-local grammar`: prints a turn's language, and says yes or where not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cli.main import main
from rlm_local.grammar import MAX_TEXT_BYTES, TurnState, turn_grammar
from rlm_local.types import GrammarMode

Mistaken = Callable[..., Any]


def test_show_prints_the_grammar_that_the_engine_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grammar", "show", "--state", "last", "--mode", "python"]) == 0
    assert capsys.readouterr().out.strip() == (turn_grammar(TurnState.LAST, "lark", GrammarMode.PYTHON) or "").strip()


def test_accepts_says_yes_or_where_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turn = tmp_path / "turn.txt"
    turn.write_text("```repl\nx = 1\n```")
    assert main(["grammar", "accepts", str(turn)]) == 0
    assert capsys.readouterr().out == "yes\n"
    assert main(["grammar", "accepts", "--state", "last", str(turn)]) == 1
    assert capsys.readouterr().out == "no: line 1, column 1: found '`'\ncould have come: FINAL\n"


@pytest.mark.parametrize(("ending", "code"), [("", 0), ("\n", 0), ("\n\n", 1), (" ", 1)])
def test_the_newline_that_an_editor_adds_is_none_of_the_turn(tmp_path: Path, ending: str, code: int) -> None:
    turn = tmp_path / "turn.txt"
    turn.write_text(f'FINAL("x"){ending}')
    assert main(["grammar", "accepts", "--state", "last", str(turn)]) == code


def test_an_answer_schema_types_the_final(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turn, schema = tmp_path / "turn.txt", tmp_path / "schema.json"
    turn.write_text('FINAL("3")')
    schema.write_text(json.dumps({"type": "integer"}))
    assert main(["grammar", "accepts", "--state", "last", "--answer-schema", str(schema), str(turn)]) == 1
    assert "line 1, column 7" in capsys.readouterr().out


def test_a_hostile_file_is_one_sentence(tmp_path: Path, mistake: Mistaken) -> None:
    huge = tmp_path / "huge"
    huge.write_bytes(b"x" * (MAX_TEXT_BYTES + 1))
    assert mistake("grammar", "accepts", str(huge)).error.startswith(f"{huge} has more than {MAX_TEXT_BYTES} bytes")
    said = mistake("grammar", "accepts", str(tmp_path / "missing"))
    assert (said.exit_code, "cannot be read: No such file" in said.error) == (2, True)
    assert "Is a directory" in mistake("grammar", "accepts", str(tmp_path)).error
    assert "is not JSON" in mistake("grammar", "show", "--answer-schema", str(huge)).error


def test_bytes_that_are_no_text_are_refused_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary = tmp_path / "program"
    binary.write_bytes(b"\x7fELF\x02\x01\x01\x00")
    assert main(["grammar", "accepts", str(binary)]) == 1
    assert capsys.readouterr().out.startswith("no: line 1, column 1: found '\\x7f'")
