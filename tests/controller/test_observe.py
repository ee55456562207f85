"""What the model reads of a cell is bounded, and says what was left out."""

from __future__ import annotations

import pytest

from rlm_local.controller.denial import is_denial
from rlm_local.controller.finish import best_so_far, is_empty, is_supported, printed_by
from rlm_local.controller.observe import NOTHING_PRINTED, observe
from rlm_local.types import Cell, CellResult, CellStatus, JsonValue, SubCall, Turn, Usage


def test_short_output_is_shown_as_printed() -> None:
    assert observe(CellResult(CellStatus.OK, "a\nb\n"), max_chars=100) == "a\nb"


def test_long_output_keeps_head_and_tail_and_tells_its_true_length() -> None:
    text = "a" * 500 + "b" * 500
    shown = observe(CellResult(CellStatus.OK, text), max_chars=100)
    assert shown.startswith("a" * 75)
    assert shown.endswith("b" * 25)
    assert "900 of 1,000 characters" in shown


def test_output_that_the_jail_cut_counts_what_never_left_it() -> None:
    result = CellResult(CellStatus.OK, "ü" * 100, stdout_tail="ü" * 100, truncated_bytes=9_600)
    assert "9,800 of 10,000 bytes" in observe(result, max_chars=100)  # an ü is two bytes


def test_nothing_printed_is_said() -> None:
    assert observe(CellResult(CellStatus.OK, ""), max_chars=100) == NOTHING_PRINTED


def test_an_error_follows_what_was_printed_before_it() -> None:
    result = CellResult(CellStatus.RAISED, "1\n", error="Traceback\nNameError: x")
    assert observe(result, max_chars=100) == "1\nTraceback\nNameError: x"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (CellStatus.TIMEOUT, "ran too long"),
        (CellStatus.OUT_OF_MEMORY, "too much memory"),
        (CellStatus.KILLED, "crashed"),
    ],
)
def test_what_stopped_a_cell_is_said_in_words(status: CellStatus, said: str) -> None:
    assert said in observe(CellResult(status, ""), max_chars=100)


@pytest.mark.parametrize(
    ("value", "seen", "supported"),
    [
        ("30 days", "within 30 days of notice", True),
        ("30 days", "within 60 days of notice", False),  # the number is what tells, not the noun
        (1234567, "magic number is: 1,234,567.", True),
        (1234567, "1234568", False),
        (11, "table: 119 rows", False),
        (11, "table: 11 rows", True),
        ("4.5 %", "it was 14.5 %", False),
        (4, "it was 4.5 %", False),
        (30, "It is 30.", True),
        ("2024-05", "since 2024-05-31", True),
        ("New York", "governed by the laws of New York", True),
        ("Delaware", "governed by the laws of New York", False),
        ("Yes", "nothing of the kind", True),  # no telling word
        ([1, 2], "", True),
        (True, "", True),
    ],
)
def test_an_answer_is_supported_when_its_telling_words_were_seen(value: JsonValue, seen: str, supported: bool) -> None:
    assert is_supported(value, seen) is supported


@pytest.mark.parametrize(
    ("value", "denial"),
    [
        ("not in the documents", True),
        ("Not stated in the text.", True),
        ("The answer is not given.", True),
        ("The deposit is not in dispute.", False),
        ("not before 3 May", False),
        ("No.", False),
        ("No, the tenant pays.", False),
        ("no pairs", True),
        ("There are no such contracts.", True),
        ("None found", True),
        ("No deposit was paid before the lease began to run", False),
        ("Nonesuch", False),
        ("not in the lease, " + "but in its annex " * 8, False),
        (None, False),
    ],
)
def test_an_answer_may_be_that_the_documents_do_not_tell(value: JsonValue, denial: bool) -> None:
    assert is_denial(value) is denial


@pytest.mark.parametrize(("value", "empty"), [(None, True), (" \n", True), ([], False), (0, False), ("x", False)])
def test_an_answer_of_nothing_is_empty_but_a_list_of_nothing_may_be_meant(value: JsonValue, empty: bool) -> None:
    assert is_empty(value) is empty


def test_echoes_of_the_models_own_words_do_not_count_as_printed() -> None:
    stdout = "no exact match for '90 days'; nearest passages by its words:\nQuestion: is it 90 days?\nThe fee is due.\n"
    printed = printed_by(CellResult(CellStatus.OK, stdout), "is it 90 days?")
    assert "90" not in printed
    assert "The fee is due." in printed


def test_the_best_so_far_is_a_held_answer_then_a_sub_calls_then_what_was_printed() -> None:
    printed = Turn("", Cell("x"), Usage(), CellResult(CellStatus.OK, "seen\n"))
    asked = Turn(
        "", Cell("y"), Usage(), CellResult(CellStatus.OK, "p\n", subcalls=(SubCall("q", "an answer", Usage()),))
    )
    assert best_so_far([printed], "held") == "held"
    assert best_so_far([printed, asked], None) == "an answer"
    assert best_so_far([asked, printed], None) == "seen"
    assert best_so_far([], None) is None
