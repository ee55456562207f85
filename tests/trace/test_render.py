import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_local.events import Event, PageDone, RunEnded, SubCallDone, TurnTaken, TurnWritten
from rlm_local.trace import event_lines, run_lines, summary_lines
from rlm_local.trace.render import HEAD_LINES
from rlm_local.trace.visible import visible, visible_line
from rlm_local.types import (
    Answer,
    CallKind,
    Cell,
    CellResult,
    CellStatus,
    Citation,
    Failure,
    Final,
    Malformed,
    Page,
    StopReason,
    SubCall,
    Turn,
    Usage,
)


def after(result: CellResult) -> list[str]:
    return event_lines(TurnTaken("0", 1, Turn("x", Cell("x"), Usage(), result), "ignored"))


def test_a_run_is_drawn_as_it_happened(run: list[Event]) -> None:
    assert run_lines(run) == [
        "question: What is the notice period?",
        "2 documents, 12,000 characters · qwen2.5-coder-1.5b, window 16,384 tokens",
        "",
        "turn 1 · first",
        "  I look for the period.",
        '  │ hits = search("days")',
        "  │ print(llm_query(hits[0].text))",
        "  ↳ sub-call: How long is the notice period? (30 characters) → 30 days",
        "  ... within 30 days of ...",
        "  30 days",
        "",
        "turn 2 · later",
        '  FINAL("30 days")',
        "",
        "answer: 30 days",
        "licence.txt, line 7:",
        "  │ notice within 30 days of it",
        "2,000 prompt tokens (1,500 cached) · 60 completion tokens · 1 sub-call · 2 turns · 12.3 s",
    ]


def test_a_run_without_its_end_says_so(run: list[Event]) -> None:
    assert run_lines(run[:-1])[-1] == "the trace stops here: the run did not come to its end"


def test_an_unconfirmed_answer_says_why_before_anything_else() -> None:
    answer = Answer("30", StopReason.TURN_LIMIT, confirmed=False, reason="all 12 turns were used")
    assert summary_lines(answer)[0] == "unconfirmed: all 12 turns were used"
    assert summary_lines(dataclasses.replace(answer, reason=""))[0] == "unconfirmed: the run ended by turn_limit"


def test_an_answer_that_rests_on_no_passage_says_so() -> None:
    answer = Answer("30", StopReason.FINAL, confirmed=True)
    assert summary_lines(answer)[0] == "no passage"
    assert "no passage" not in summary_lines(dataclasses.replace(answer, value=None))


def test_long_output_keeps_its_head_and_tells_its_true_length() -> None:
    lines = after(CellResult(CellStatus.OK, "".join(f"row {number}\n" for number in range(1000))))
    assert lines[:2] == ["  row 0", "  row 1"]
    assert lines[HEAD_LINES:] == ["  · … 7,889 characters in all"]
    assert after(CellResult(CellStatus.OK, "x" * 10_000))[-1] == "  · … 10,000 characters in all"


def test_output_that_was_cut_in_the_jail_says_how_much_is_missing() -> None:
    lines = after(CellResult(CellStatus.OK, "head", stdout_tail="tail", truncated_bytes=5_000))
    assert lines == ["  head", "  · … 4 characters and 5,000 bytes more that were cut"]


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (CellResult(CellStatus.OK, "\n"), ["  · no output"]),
        (
            CellResult(CellStatus.RAISED, "1\n", error="Traceback:\n  line 1\nNameError: x\n", elapsed_s=0.04),
            ["  1", "  · the cell raised an error after 0.0 s", "  Traceback:", "    line 1", "  NameError: x"],
        ),
        (CellResult(CellStatus.TIMEOUT, "", elapsed_s=60.0), ["  · the cell ran out of time after 60.0 s"]),
        (CellResult(CellStatus.OUT_OF_MEMORY, "", elapsed_s=2.0), ["  · the cell ran out of memory after 2.0 s"]),
        (
            CellResult(CellStatus.KILLED, "", elapsed_s=2.0),
            ["  · the cell's process died; its names were rebuilt after 2.0 s"],
        ),
    ],
)
def test_what_became_of_a_cell_is_told(result: CellResult, lines: list[str]) -> None:
    assert after(result) == lines


@pytest.mark.parametrize(
    ("action", "observation", "lines"),
    [
        (Final(1), "", []),
        (Final(1), "Nothing was printed yet; look first.", ["  · Nothing was printed yet; look first."]),
        (Malformed("the block has no end"), "ignored", ["  · not a turn: the block has no end"]),
    ],
)
def test_a_turn_without_a_cell_shows_what_was_wrong_with_it(
    action: Final | Malformed, observation: str, lines: list[str]
) -> None:
    assert event_lines(TurnTaken("0", 1, Turn("x", action, Usage()), observation)) == lines


def test_a_sub_call_is_one_line_however_long_its_prompt() -> None:
    (line,) = event_lines(SubCallDone("0", 1, 1, SubCall("word\n" * 100_000, "yes\nand no", Usage())))
    assert line.startswith("  ↳ sub-call: word word")
    assert line.endswith("… (500,000 characters) → yes and no")
    (refused,) = event_lines(SubCallDone("0", 1, 1, SubCall("why?", "", Usage(), refused="no calls are left")))
    assert refused == "  ↳ sub-call: why? (4 characters) → refused: no calls are left"


def test_a_page_of_items_is_one_line_and_tells_what_failed() -> None:
    failed = (Failure(1, "too long"),)
    page = Page(CallKind.CLASSIFY, {}, ("a", "b", "c"), ({"label": "x"}, None, {"label": "y"}), failed, Usage())
    assert event_lines(PageDone("0", 1, 1, page)) == [
        "  ↳ classify: 3 items → {'label': 'x'}; {'label': 'y'}",
        "  · 1 item failed; item 1: too long",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),  # the one-byte form of ESC [
        ("safe\rpainted over", r"safe\x0dpainted over".replace(r"\x0d", r"\r")),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("\u2066hidden\u2069\u200b\ufeff", r"\u2066hidden\u2069\u200b\ufeff"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("tab\tand\nnewline, Gebühr, 契約, 👩\u200d⚖️", "tab\tand\nnewline, Gebühr, 契約, 👩\u200d⚖️"),
    ],
)
def test_what_would_act_on_a_terminal_is_shown_in_place_of_acting(text: str, shown: str) -> None:
    assert visible(text) == shown


HOSTILE = "\x1b[31m\u202e\x07"


@pytest.mark.parametrize(
    "event",
    [
        TurnWritten("0", 1, f"{HOSTILE}\n```repl\n{HOSTILE}\n```"),
        SubCallDone("0", 1, 1, SubCall(HOSTILE, HOSTILE, Usage())),
        SubCallDone("0", 1, 1, SubCall(HOSTILE, "", Usage(), refused=HOSTILE)),
        PageDone(
            "0", 1, 1, Page(CallKind.MAP, {"x": HOSTILE}, (HOSTILE,), (HOSTILE,), (Failure(0, HOSTILE),), Usage())
        ),
        TurnTaken("0", 1, Turn("x", Cell("x"), Usage(), CellResult(CellStatus.RAISED, HOSTILE, error=HOSTILE)), "x"),
        TurnTaken("0", 1, Turn("x", Malformed(HOSTILE), Usage()), HOSTILE),
        TurnTaken("0", 1, Turn("x", Final(1), Usage()), HOSTILE),
        RunEnded(
            Answer(
                HOSTILE,
                StopReason.TIME_LIMIT,
                confirmed=False,
                reason=HOSTILE,
                citations=(Citation(HOSTILE, 0, 1, 1, HOSTILE),),
            )
        ),
    ],
)
def test_nothing_untrusted_reaches_a_terminal_as_it_is(event: Event) -> None:
    shown = "\n".join(event_lines(event))
    assert not {"\x1b", "\u202e", "\x07"} & set(shown)
    assert r"\x1b[31m\u202e\x07" in shown


@given(st.text(), st.integers(10, 50))
def test_a_visible_line_is_one_line_of_at_most_so_many_characters(text: str, max_chars: int) -> None:
    line = visible_line(text, max_chars)
    assert len(line) <= max_chars
    assert len(line.splitlines()) <= 1
