"""`refusal` says where a text leaves the language and what could have come there, whatever the text is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_local.errors import ConfigError
from rlm_local.grammar import MAX_TEXT_BYTES, Refusal, TurnState, refusal, turn_grammar
from rlm_local.types import GrammarMode

pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

OPEN = turn_grammar(TurnState.OPEN, "lark", GrammarMode.SKELETON) or ""
PYTHON = turn_grammar(TurnState.OPEN, "lark", GrammarMode.PYTHON) or ""


@pytest.mark.parametrize(
    ("text", "line", "column", "found", "among"),
    [
        ("```repl\nprint(1\n```", 3, 1, "`", ")"),
        ("```repl\nx = 1\ny = = 2\n```", 3, 5, "=", "a digit"),
        ("```repl\nx = 1 if y \n```", 2, 12, "\n", "else"),
        ("```repl\ntry:\n    x = 1\ny = 2\n```", 4, 1, "y", "finally:"),
        ("FINAL(1) and", 1, 9, " ", "the end"),
        ("```repl\nx = 1", 2, 6, "", "a new line"),
        ("", 1, 1, "", "a letter"),
    ],
)
def test_a_refusal_has_its_place_and_what_could_have_come(
    text: str, line: int, column: int, found: str, among: str
) -> None:
    refused = refusal(PYTHON, text.encode())
    assert refused is not None
    assert (refused.line, refused.column, refused.found) == (line, column, found)
    assert among in refused.expected


def test_a_whole_turn_is_not_refused() -> None:
    assert refusal(PYTHON, b"```repl\nx = 'caf\xc3\xa9'\n```") is None


def test_a_text_longer_than_any_turn_is_refused_by_its_size() -> None:
    with pytest.raises(ConfigError, match=f"has {MAX_TEXT_BYTES + 1} bytes"):
        refusal(OPEN, b"x" * (MAX_TEXT_BYTES + 1))


PIECES = st.sampled_from([b"```repl\n", b"```", b"\n", b"FINAL(", b")", b'"', b"'", b"    ", b"x = 1", b"\xff", b"\0"])


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(), st.lists(PIECES).map(b"".join)))
def test_no_bytes_break_it(text: bytes) -> None:
    began = time.process_time()
    found = refusal(OPEN, text)
    assert found is None or isinstance(found, Refusal)
    assert time.process_time() - began < 1
