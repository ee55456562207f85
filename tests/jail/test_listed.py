"""listed(): what stands behind a label, in which documents, and what is told where no line has it."""

from __future__ import annotations

import time

import pytest

from rlm_local.types import Document
from sandbox.worker.listed import Listed
from tests.jail.conftest import worker_corpus

ADA = "[2019-05-01] Visit\n  Diagnoses: Gout (active); Anemia (disorder) (resolved 2018-01-01)\n  Plan: rest\n"
EVA = "[2020-05-01] Visit\n- Diagnoses: Gout (resolved 2021-02-03).\nNo label here\n"


def test_things_behind_a_label_come_once_with_all_who_have_them(capsys: pytest.CaptureFixture[str]) -> None:
    listed = Listed(worker_corpus(Document("Ada", ADA), Document("Eva", EVA)))
    found = {"Gout": {"Ada", "Eva"}, "Anemia (disorder)": {"Ada"}}
    assert listed("Diagnoses") == found
    assert capsys.readouterr().out == "listed: 2 different things behind 'Diagnoses:'\n"
    assert listed("diagnosis:") == found  # the likest label
    assert listed("Diagnoses", "Eva") == {"Gout": {"Eva"}}


@pytest.mark.parametrize("text", ["\n" * 200_000, "-\n" * 100_000, " " * 200_000, "Plan: " + " " * 200_000 + "(x"])
def test_long_runs_of_nothing_take_no_time(text: str) -> None:
    listed = Listed(worker_corpus(Document("Ada", ADA), Document("odd", text)))
    began = time.perf_counter()
    assert listed("Diagnoses") == {"Gout": {"Ada"}, "Anemia (disorder)": {"Ada"}}
    listed("Plan")
    assert time.perf_counter() - began < 5.0


def test_a_label_that_no_line_has_is_told_with_those_that_there_are() -> None:
    listed = Listed(worker_corpus(Document("Ada", ADA), Document("Eva", EVA)))
    with pytest.raises(
        ValueError, match="no line begins with 'Allergies' and a colon; labels that there are: Diagnoses, Plan"
    ):
        listed("Allergies")
    with pytest.raises(ValueError, match="labels that there are: none"):
        Listed(worker_corpus(Document("a", "nothing")))("Plan")


NOTES = "Patient: {}\nComplaints: cough; fever; a rash\nDiagnoses: gout\n"


@pytest.mark.parametrize("question", ["", "What do they complain of, and what were they diagnosed with?"])
def test_a_plural_of_a_label_that_names_each_document_is_told_the_labels_that_they_share(question: str) -> None:
    listed = Listed(worker_corpus(*(Document(name, NOTES.format(name)) for name in ("Ada", "Eva"))), lambda: question)
    with pytest.raises(
        ValueError,
        match=r"^no line begins with 'Patients' and a colon, and 'Patient:' says something else of every document; "
        r"labels with things that several documents have: 'Complaints', 'Diagnoses'$",
    ):
        listed("Patients")
    assert listed("patient") == {"Ada": {"Ada"}, "Eva": {"Eva"}}  # whoever names it so means it
    assert listed("Patients", "Ada") == {"Ada": {"Ada"}}  # one document shares nothing with another


def test_documents_that_share_nothing_have_no_label_to_tell() -> None:
    listed = Listed(worker_corpus(Document("a", "Patient: Ada\n"), Document("b", "Patient: Eva\n")))
    with pytest.raises(ValueError, match=r"labels with things that several documents have: none$"):
        listed("Patients")


def test_the_one_label_that_the_question_speaks_of_is_meant_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    corpus = worker_corpus(*(Document(name, NOTES.format(name)) for name in ("Ada", "Eva")))
    listed = Listed(corpus, lambda: "How many of the patients have ever been diagnosed with gout?")
    assert listed("Patients") == {"gout": {"Ada", "Eva"}}
    assert capsys.readouterr().out == (
        "listed: no line begins with 'Patients'; 'Patient:' says something else of every document\n"
        "listed: 1 different things behind 'Diagnoses:'\n"
    )
