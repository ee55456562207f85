"""timeline(): which day an entry stands under, in what order entries come, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rlm_local.days import headings
from rlm_local.types import Document
from sandbox.worker.timeline import Timeline
from tests.jail.conftest import worker_corpus

CHART = """Patient: Ada Berg | Born: 1950-01-02

[2019-05-01] Check up
  Observations: Body Weight: 71.2 kg; Heart rate: 66 /min
  Diagnoses: Anemia (resolved 2018-01-01); Heart rate: odd
[2018-03-04] Visit
  Observations: Heart rate: 70 /min
"""
LETTERS = """Porto, 3 May 1881
Dear Marie, the boat came in late.

Porto, 12 April 1881
Dear Jean, no boat today.
"""


def timeline_over(*documents: Document) -> tuple[Timeline, list[tuple[int, int, int]]]:
    told: list[tuple[int, int, int]] = []

    def report(spans: Sequence[tuple[int, int, int]]) -> None:
        told.extend(spans)

    return Timeline(worker_corpus(*documents), report), told


def test_entries_have_the_day_above_them_and_come_by_day(capsys: pytest.CaptureFixture[str]) -> None:
    timeline, told = timeline_over(Document("other", "no rate\n"), Document("Ada Berg", CHART))
    entries = timeline("heart rate")
    assert [str(entry) for entry in entries] == [
        "2018-03-04: Heart rate: 70 /min",
        "2019-05-01: Heart rate: 66 /min",
        "2019-05-01: Heart rate: odd",
    ]
    assert capsys.readouterr().out == (
        "timeline: 3 entries with 'heart rate' in 2 of 2 documents, 2018-03-04 to 2019-05-01\n"
    )
    assert [(entry.document, entry.line) for entry in entries] == [("Ada Berg", 7), ("Ada Berg", 4), ("Ada Berg", 5)]
    assert [CHART[start:end] for index, start, end in told if index == 1] == [
        "Heart rate: 66 /min",
        "Heart rate: odd",
        "Heart rate: 70 /min",
    ]


def test_of_one_document_its_own_entries_come_alone(capsys: pytest.CaptureFixture[str]) -> None:
    timeline, _ = timeline_over(Document("a.txt", CHART), Document("letters", LETTERS))
    assert [str(entry) for entry in timeline("boat", "Letters")] == [
        "1881-04-12: boat today.",
        "1881-05-03: boat came in late.",
    ]
    assert len(timeline("heart rate", "ada berg")) == 3  # as the chart begins, where no name has it
    assert timeline("heart rate", ["letters"]) == []
    assert "'heart rate' stands nowhere in letters" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match=r"no document has 'Eva' in its name or at its beginning; names: a\.txt, letter"
    ):
        timeline("boat", "Eva")


def test_what_others_say_ten_thousand_times_hides_nothing() -> None:
    timeline, _ = timeline_over(Document("loud", "heart rate\n" * 20_000), Document("Ada Berg", CHART))
    assert len(timeline("heart rate", "Ada Berg")) == 3


def test_what_stands_under_no_day_comes_first_and_says_so() -> None:
    timeline, _ = timeline_over(Document("notes", "The pump leaks.\n"))
    assert [str(entry) for entry in timeline("pump")] == ["no day: pump leaks."]


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("[1996-03-17] Encounter", ["1996-03-17"]),
        ("Date: Aug 8, 2022\nOn 3 March 2021, we met", ["2022-08-08", "2021-03-03"]),
        ("03.04.2021 rain", ["2021-04-03"]),
        ("03/04/2021 rain", []),  # March or April
        ("03/04/2021 rain\n13/04/2021 sun", ["2021-04-03", "2021-04-13"]),
        ("2021-06-31 is no day", []),
        ("The lease of 3 May 2020 ends", []),
        ("  2021-01-01 a\n2021-01-02 b", ["2021-01-02"]),
        ("  2021-01-01 a\n  2021-01-02 b", ["2021-01-01", "2021-01-02"]),
    ],
)
def test_a_day_heads_a_line(text: str, days: list[str]) -> None:
    assert [day for _, day in headings(text)] == days
