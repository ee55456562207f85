"""search(): what it finds, how it says so, and that what it shows is the document's own text."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_local.types import Document
from sandbox.worker.find import loose_pattern
from sandbox.worker.search import Search, Span
from sandbox.worker.words import content_words, telling_names
from tests.jail.conftest import worker_corpus

# These machines are shared: a slow draw is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FILLER = "Nothing of note is said in this sentence. " * 60
LEASE = Document(
    "lease.txt",
    f"{FILLER}\nThe tenant’s notice period is\nninety (90) days.\n{FILLER}\nThe deposit is 4,200 euros. {FILLER}",
)
LETTER = Document("letter.txt", f"Dear Sir,\n{FILLER}\nThe deposit was paid by wire-transfer on 3 May.\n{FILLER}")


class Desk:
    """A search over documents, and what it reported."""

    def __init__(self, *documents: Document) -> None:
        self.documents = documents
        self.spans: list[Span] = []
        self.search = Search(worker_corpus(*documents), self.spans.extend)


@pytest.fixture
def desk() -> Desk:
    return Desk(LEASE, LETTER)


def test_a_hit_is_printed_with_count_document_line_and_offset(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    (match,) = desk.search("ninety (90)", regex=False, chars=80)
    printed = capsys.readouterr().out
    assert printed.startswith("1 match for 'ninety (90)':\n[1] lease.txt line ")
    assert f"(offset {match.start}):\n{match.text}\n" in printed
    assert "ninety (90) days." in match.text


def test_a_match_is_the_documents_own_text_and_its_span_is_reported(desk: Desk) -> None:
    matches = desk.search("deposit")
    texts = {document.name: document.text for document in desk.documents}
    assert [match.document for match in matches] == ["lease.txt", "letter.txt"]
    assert all(texts[match.document][match.start : match.end] == match.text == str(match) for match in matches)
    assert all(match.line == texts[match.document].count("\n", 0, match.start) + 1 for match in matches)
    assert desk.spans == [(index, match.start, match.end) for index, match in enumerate(matches)]


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        ("NOTICE PERIOD", "1 match for"),
        (r"\d+ days|9\d\)", "1 match for"),
        ("ninety (90) days", "1 match when spaces, quotes and hyphens may differ"),
        ("tenant's   notice period is ninety", "1 match when spaces"),
        ("wire transfer", "1 match when spaces"),
        ("deposit is 4,200 (", "not a valid regular expression"),
        ("when must the tenant give notice", "nearest passages by its words"),
        ("zebra crossing", "no match for 'zebra crossing', and none of its words occurs"),
    ],
)
def test_how_it_was_found_is_said(desk: Desk, capsys: pytest.CaptureFixture[str], pattern: str, how: str) -> None:
    desk.search(pattern)
    assert how in capsys.readouterr().out


def test_a_question_leads_to_the_passage_that_holds_its_words(desk: Desk) -> None:
    assert "notice period" in desk.search("How long is the notice period of the tenant?")[0].text


def test_words_that_occur_nowhere_are_named(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.search("notice zebra")
    assert "nowhere in the documents: zebra" in capsys.readouterr().out


def test_case_matters_when_asked(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.search("DEPOSIT", case=True)
    assert capsys.readouterr().out.startswith("no exact match")


def test_every_document_gets_its_turn_before_one_gets_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    many = Document("many", f"needle {FILLER}" * 50)
    desk = Desk(many, Document("few", f"{FILLER} needle {FILLER}"))
    assert [match.document for match in desk.search("needle", limit=3)] == ["many", "many", "few"]
    assert "51 matches for 'needle', showing 3 passages:" in capsys.readouterr().out


def test_close_matches_share_a_passage() -> None:
    matches = Desk(Document("a", f"{FILLER}\none key, two keys, three keys\n{FILLER}")).search("key")
    assert len(matches) == 1


def test_a_list_searches_each_and_prints_a_passage_once(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    matches = desk.search(["4,200", "4,200 euros", "wire"])
    assert len(matches) == 2
    printed = capsys.readouterr().out
    assert printed.count("4,200 euros. ") == 1
    assert "[1] lease.txt" in printed
    assert "shown above" in printed


def test_a_compiled_pattern_is_taken_as_it_is(desk: Desk) -> None:
    assert desk.search(re.compile(r"(?-i:Dear) \w+"))[0].document == "letter.txt"


def test_a_header_line_is_not_part_of_a_document(desk: Desk) -> None:
    assert desk.search("=== lease.txt ===") == []


def test_one_giant_line_is_cut_at_words() -> None:
    desk = Desk(Document("line", "alpha beta gamma " * 20_000 + "needle " + "delta epsilon " * 20_000))
    (match,) = desk.search("needle", chars=200)
    assert 150 < len(match.text) < 350
    assert match.text.split()[0] in ("alpha", "beta", "gamma")
    assert match.text.split()[-1] in ("delta", "epsilon")


def test_lower_case_of_another_length_does_not_shift_a_match() -> None:
    text = "İstanbul " * 100 + "The needle is here."
    (match,) = Desk(Document("turkish", text)).search("NEEDLE", chars=80)
    assert "needle" in match.text


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of `re`, on some patterns; the worker ignores them all
@patient
@given(st.text(max_size=30), st.text(max_size=200))
def test_any_pattern_on_any_text_finds_true_slices_or_nothing(pattern: str, text: str) -> None:
    document = Document("any", text)
    desk = Desk(document)
    if not pattern.strip():
        return
    for match in desk.search(pattern):
        assert text[match.start : match.end] == match.text
    assert all(0 <= start < end <= len(text) for _, start, end in desk.spans)


@patient
@given(st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=40))
def test_a_text_matches_its_own_loose_pattern(text: str) -> None:
    stripped = text.strip()
    if any(character.isalnum() for character in stripped):
        assert re.search(loose_pattern(stripped), stripped)


def test_content_words_leave_out_syntax_and_small_words() -> None:
    assert content_words(r"(?i)\bwhat is the notice\s+period{2,3}\d+") == ["notice", "period"]


def magic(key: str, number: int) -> str:
    return f"One of the special magic numbers for {key} is: {number}."


def test_a_question_about_several_things_gets_a_passage_for_each() -> None:
    keys = {"tasty-final": 2089540, "jittery-preface": 7146833, "elite-gorilla": 4069288, "ripe-hammer": 5550123}
    text = "".join(f"{FILLER}{magic(key, number)}\n" for key, number in keys.items())
    found = Desk(Document("a.txt", text)).search(f"What are the special magic numbers for {', '.join(keys)}?")
    assert [number for number in keys.values() if str(number) not in str(found)] == []


def test_passages_as_good_as_the_last_one_shown_are_shown_too_and_a_limit_is_kept() -> None:
    numbers = range(7_000_001, 7_000_006)
    text = "".join(f"{FILLER}{magic('ripe-hammer', number)}\n" for number in numbers)
    search = Desk(Document("a.txt", text)).search
    question = "Which are all the special magic numbers for ripe hammers?"
    assert [number for number in numbers if str(number) not in str(search(question))] == []
    assert len(search(question, limit=2)) == 2


def test_what_comes_after_the_three_best_is_left_out() -> None:
    text = "".join(f"{FILLER}The {words}.\n" for words in ("roof needs repair soon", *["roof is red"] * 5))
    found = Desk(Document("a.txt", text)).search("When does the roof need repair?")
    assert len(found) == 1  # the others have half of its score


def test_a_document_that_a_question_names_in_full_comes_first() -> None:
    licence = "The license is granted to either party."
    others = [Document(f"C10{number}", f"{FILLER}An unlimited license, to a party.") for number in range(3)]
    desk = Desk(*others, Document("C9043", f"{FILLER}{licence}"))
    found = desk.search("Does C9043 have an unlimited license for a party?")
    assert (found[0].document, licence in found[0].text) == ("C9043", True)


def test_who_reads_passages_is_told_which_names_stand_nowhere(desk: Desk) -> None:
    question = "When has Astemizole been paid for by the tenant? Answer as YYYY-MM-DD, for instance Sunday."
    matches = desk.search(question, show=False)
    assert matches.nowhere == ("Astemizole", "Sunday")
    assert str(matches).startswith("(Nowhere in the documents: Astemizole, Sunday)\n\n")
    assert "Nowhere" not in str(desk.search("the deposit of May", show=False))
    assert "Nowhere" not in str(matches[0])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("On which day did Alfreda Wyman come?", ["Alfreda", "Wyman"]),
        ("Who is it? Answer with a name.", []),
        ("What is 'Tablet 25 MG'?", ["Tablet", "25"]),
        ("Does C5598 say so? Reply YES or NO.", ["C5598"]),
        ("Kind: Sharing", []),
        ("the McGill of McGill", ["McGill"]),
    ],
)
def test_telling_names(text: str, names: list[str]) -> None:
    assert telling_names(text) == names
