"""Who has read which characters: each of them is told once, and nothing is told to be read that was not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_local.documents import coverage, join
from rlm_local.documents.coverage import searched_documents
from rlm_local.types import Document, DocumentCoverage, Span, Stretch
from tests.documents.conftest import sealed

LEASE = "".join(f"Clause {number} of the lease says something of its own: {number * 7919}.\n" for number in range(40))
LETTER = "Dear tenant,\nthe heating in flat 12 will be repaired on Monday at nine.\n"
CORPUS = join([Document("lease.txt", LEASE), Document("letter.txt", LETTER)])
SEALED = sealed(CORPUS.documents)


def cover(**read: object) -> tuple[DocumentCoverage, ...]:
    nothing: dict[str, object] = {"shown": (), "given": (), "read_below": (), "codes": ()}
    return coverage(CORPUS, **{**nothing, **read})  # type: ignore[arg-type]


def text_of(one: DocumentCoverage, name: str) -> str:
    text = {"lease.txt": LEASE, "letter.txt": LETTER}[one.document]
    return "".join(text[stretch.start : stretch.end] for stretch in getattr(one, name))


def test_without_anything_read_all_is_untouched() -> None:
    lease, letter = cover()
    assert (lease.untouched, letter.untouched) == ((Stretch(0, len(LEASE)),), (Stretch(0, len(LETTER)),))


def test_what_was_printed_or_given_is_told_to_the_character() -> None:
    printed, prompt = LEASE[100:400], f"Read this:\n{LEASE[300:900]}\n\nQuestion: what is due?"
    lease, letter = cover(shown=[f"[1] lease.txt line 3:\n{printed}\n"], given=[prompt])
    assert lease.printed == (Stretch(100, 400),)
    assert lease.given == (Stretch(400, 900),)  # printed characters are told once
    assert text_of(lease, "untouched") == LEASE[:100] + LEASE[900:]
    assert letter.read_chars == 0


def test_passages_joined_in_one_prompt_are_all_found() -> None:
    prompt = f"lease.txt, line 3:\n{LEASE[180:240]}\n\nlease.txt, line 9:\n{LEASE[700:1000]}\n\n{LETTER}"
    lease, letter = cover(given=[prompt])
    assert LEASE[700:1000] in text_of(lease, "given")
    assert text_of(letter, "given").strip() == LETTER.strip()


def test_items_that_are_lines_are_read_however_many_and_however_short() -> None:
    lines = [f"entry {number} " + "x" * ((number + 30) % 50) for number in range(20_000)]
    corpus = join([Document("log.txt", "\n".join(lines))])
    (whole,) = coverage(corpus, shown=(), given=lines, read_below=(), codes=())
    assert whole.given == (Stretch(0, whole.chars),)  # line breaks go with their lines
    some = [line for line in lines[::3] if len(line) >= 24]
    (part,) = coverage(corpus, shown=(), given=some, read_below=(), codes=())
    assert part.read_chars == sum(map(len, some))


def test_a_short_item_counts_only_as_the_line_behind_the_last_one() -> None:
    corpus = join([Document("list.txt", "the first line is long enough\nyes\nno\n\nyes, and more\n")])
    for items, read in ((["yes"], 0), (["the first line is long enough", "yes", "no", "yes"], 29 + 1 + 3 + 1 + 2 + 2)):
        (one,) = coverage(corpus, shown=(), given=items, read_below=(), codes=())
        assert one.read_chars == read


def test_a_text_that_only_resembles_a_document_counts_for_nothing() -> None:
    assert all(one.read_chars == 0 for one in cover(shown=["The rent is due on Monday in flat 13, says clause 99."]))


def test_what_children_read_was_read_by_a_sub_model() -> None:
    lease, _ = cover(read_below=[Span(0, 10, 50), Span(0, 40, 60)])
    assert lease.given == (Stretch(10, 60),)


@pytest.mark.parametrize(
    ("code", "indices"),
    [
        ("search('fee')", {0, 1, 2}),
        ("print(len(context))", {0, 1, 2}),
        ("for document in documents: print(document.name)", {0, 1, 2}),
        ("print(documents[1].text[:80])", {1}),
        ("print(documents[-1].text, documents[0].name)", {0, 2}),
        ("print(documents[7])", set()),
        ("x = 1", set()),
        ("def broken(:", set()),
    ],
)
def test_code_has_searched_the_documents_that_it_names_or_all(code: str, indices: set[int]) -> None:
    assert searched_documents([code], 3) == indices


@pytest.mark.parametrize("count", [1, 2, 1_501])
def test_code_that_python_runs_is_read_however_deep(count: int) -> None:
    assert searched_documents([f"documents[{'-' * count}2]"], 3) == {1 if count % 2 else 2}


def test_what_code_searched_and_no_model_read_is_told_apart() -> None:
    lease, letter = cover(codes=["documents[0].text.count('fee')"], shown=[LEASE[:200]])
    assert lease.searched == (Stretch(200, len(LEASE)),)
    assert letter.untouched == (Stretch(0, len(LETTER)),)


PIECE = st.tuples(st.integers(0, len(LEASE)), st.integers(0, 600)).map(lambda at: LEASE[at[0] : at[0] + at[1]])


@settings(deadline=None, max_examples=50)
@given(st.lists(PIECE, max_size=4), st.lists(PIECE, max_size=4), st.booleans())
def test_every_character_stands_in_exactly_one_of_the_four(shown: list[str], given: list[str], looked: bool) -> None:
    covered = cover(shown=["\n".join(shown)], given=given, codes=["context"] if looked else [])
    for one in covered:
        stretches = [s for name in ("printed", "given", "searched", "untouched") for s in getattr(one, name)]
        counted = sorted(number for stretch in stretches for number in range(stretch.start, stretch.end))
        assert counted == list(range(one.chars))
    said = "\n".join(shown + given)
    for stretch in covered[0].printed + covered[0].given:
        for number in range(stretch.start, stretch.end):  # it stands in words that were read
            assert any(LEASE[at : at + 8] in said for at in range(max(0, number - 7), number + 1))


@settings(deadline=None, max_examples=50)
@given(st.lists(PIECE, max_size=4), st.lists(PIECE, max_size=4))
def test_of_a_sealed_document_the_same_is_read(shown: list[str], given: list[str]) -> None:
    told = coverage(SEALED, shown=["\n".join(shown)], given=[*given, *LEASE.splitlines()], read_below=(), codes=())
    assert told == cover(shown=["\n".join(shown)], given=[*given, *LEASE.splitlines()])


def test_a_document_given_in_whole_chunks_is_read_in_whole() -> None:
    chunks = [LEASE[start : start + 500] for start in range(0, len(LEASE), 500)]
    lease, _ = cover(given=[f"{chunk}\n\nIs there a fee?" for chunk in chunks])
    assert lease.read_chars / lease.chars > 0.95  # the last chunk's end may be shorter than an anchor
