"""table(): what it takes for a row, what it calls the fields, and what it makes of their values."""

from __future__ import annotations

import json

import pytest

from rlm_local.days import day_reader
from rlm_local.types import Document
from sandbox.worker.passages import Match
from sandbox.worker.table import Table
from tests.jail.conftest import worker_corpus


def table_over(*texts: str) -> Table:
    documents = (Document(f"doc-{at}", text) for at, text in enumerate(texts))
    return Table(worker_corpus(*documents))


TOLD = """Below stand 3 messages, a line each, with day and user; each is 'spam', 'ham', or neither.

Date: Aug 08, 2022 || User: 85312 || Text: What does: it cost?
Date: Jun 2, 2023 || User: 67994 || Text: Yes || or no
Date: Jun 03, 2023 || User: 80431 || Text:
"""


def test_names_stand_in_front_of_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table_over(TOLD)()
    assert rows == [
        {"Date": "2022-08-08", "User": 85312, "Text": "What does: it cost?"},
        {"Date": "2023-06-02", "User": 67994, "Text": "Yes || or no"},
        {"Date": "2023-06-03", "User": 80431, "Text": ""},
    ]
    assert capsys.readouterr().out == "table: 3 rows of Date, User, Text; 1 other line\n"


def test_a_whole_number_equals_its_text_too_and_is_a_number_otherwise() -> None:
    user = table_over(TOLD)()[0]["User"]
    assert user == 85312
    assert user == "85312"
    assert user in ("85312", "67994")
    assert user not in ("8531", "67994", 67994)
    assert [other != user for other in ("85312", 85312, "8531")] == [False, False, True]
    assert (user + 1, user > 5, str(user), f"{user}", json.dumps([user]), {user: 1}[85312]) == (
        85313,
        True,
        "85312",
        "85312",
        "[85312]",
        1,
    )
    assert sorted([user, 9]) == [9, 85312]


def test_a_default_does_not_answer_for_a_field_that_no_row_has() -> None:
    first = table_over(TOLD)()[0]
    assert (first.get("user"), first.get("User", 1), first.get(1)) == (85312, 85312, 85312)
    with pytest.raises(KeyError, match="no field 'Sender'; fields: Date, User, Text"):
        first.get("Sender", "")


def test_a_row_knows_its_document_its_line_and_its_own_words() -> None:
    first, *_ = table_over("nothing", TOLD)()
    assert (first.document, first.line) == ("doc-1", 3)
    assert first.text == "Date: Aug 08, 2022 || User: 85312 || Text: What does: it cost?"


def test_a_row_of_a_passage_knows_them_too() -> None:
    start = TOLD.index("Date: Jun 2")
    *_, last = table_over()(Match("letter", start, len(TOLD), 4, TOLD[start:]))
    assert (last.document, last.line, last["User"]) == ("letter", 5, 80431)


def test_a_field_is_found_by_place_and_in_any_case() -> None:
    first, *_ = table_over(TOLD)()
    assert (first[1], first[-1], first["user"], first[" USER "]) == (85312, "What does: it cost?", 85312, 85312)
    with pytest.raises(KeyError, match="no field 'sum'; fields: Date, User, Text"):
        first["sum"]
    with pytest.raises(KeyError, match="no field 3"):
        first[3]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b,c\n1,2,x\n3,4,"y,z"', [{"a": 1, "b": 2, "c": "x"}, {"a": 3, "b": 4, "c": "y,z"}]),
        ("who;on\nJo;1.2.2023\nAl;31.12.2022", [{"who": "Jo", "on": "2023-02-01"}, {"who": "Al", "on": "2022-12-31"}]),
        ("| Name | Sum |\n|:---|---:|\n| a | 1.5 |\n| b | 2 |", [{"Name": "a", "Sum": 1.5}, {"Name": "b", "Sum": 2.0}]),
        (
            "ts\tv\n2024-01-02T03:04:05Z\t3\n2024-01-02 03:05\t4",
            [{"ts": "2024-01-02 03:04:05Z", "v": 3}, {"ts": "2024-01-02 03:05", "v": 4}],
        ),
        (
            "2021-03-04 | anna | came | broken\n2021-05-11 | yusuf | thanks",
            [{0: "2021-03-04", 1: "anna", 2: "came | broken"}, {0: "2021-05-11", 1: "yusuf", 2: "thanks"}],
        ),
        ("Day: 1 | Day: 2\nDay: 3 | Day: 4", [{"Day": 1, 1: "Day: 2"}, {"Day": 3, 1: "Day: 4"}]),
        ("x | 007\ny | 012", [{0: "x", 1: "007"}, {0: "y", 1: "012"}]),
        ("x | 1\ny | ", [{0: "x", 1: 1}, {0: "y", 1: None}]),
    ],
    ids=[
        "csv",
        "semicolons",
        "markdown",
        "tabs and times",
        "no names",
        "one name twice",
        "numbers that begin with 0 are text",
        "empty",
    ],
)
def test_forms(text: str, rows: list[dict[object, object]]) -> None:
    assert table_over(text)() == rows


@pytest.mark.parametrize(
    "text", ["", "one line, with a comma", "Prose, with a comma.\nAnd more, of it, here.\nAnd none."], ids=repr
)
def test_prose_is_no_table(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert table_over("nothing")(text) == []
    assert "have no fields in common" in capsys.readouterr().out


def test_a_separator_can_be_named() -> None:
    assert table_over("a -> 1\nb -> 2\nno")(sep=" -> ") == [{0: "a", 1: 1}, {0: "b", 1: 2}]
    assert table_over("a 1")(sep="#") == []


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="takes a text, a document or a list of them, not int"):
        table_over(TOLD)(3)


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["Jul 20, 2024", "May 1, 2024"], ["2024-07-20", "2024-05-01"]),
        (["July 20 2024", "Sept. 3rd, 2024"], ["2024-07-20", "2024-09-03"]),
        (["3 May 1881", "14th june 1881"], ["1881-05-03", "1881-06-14"]),
        (["20-Jul-2024"], ["2024-07-20"]),
        (["1/13/2024", "2/3/2024"], ["2024-01-13", "2024-02-03"]),
        (["13/1/2024", "2/3/2024"], ["2024-01-13", "2024-03-02"]),
        (["2024/7/2"], ["2024-07-02"]),
        (["3/3/2024"], ["2024-03-03"]),
    ],
    ids=str,
)
def test_days(texts: list[str], days: list[str]) -> None:
    read = day_reader(texts)
    assert read is not None
    assert [read(text) for text in texts] == days


@pytest.mark.parametrize(
    "texts", [["1/2/2024"], ["2024-13-01"], ["31 June 2024"], ["Mai 3, 2024"], ["2024-01-02", "soon"]]
)
def test_what_may_be_another_day_or_is_none_stays_text(texts: list[str]) -> None:
    assert day_reader(texts) is None
