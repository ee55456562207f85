import itertools
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_local.documents.citations import cite
from rlm_local.documents.corpus import join
from rlm_local.types import Citation, Corpus, Document, JsonValue, Span
from tests.documents.conftest import sealed


def search(corpus: Corpus, pattern: str, context: int = 60) -> list[Span]:
    """Return what the REPL's search() prints: each match with some characters around it."""
    return [
        Span(index, max(0, match.start() - context), min(len(document.text), match.end() + context))
        for index, document in enumerate(corpus.documents)
        for match in re.finditer(pattern, document.text)
    ]


def quotes(citations: tuple[Citation, ...]) -> list[str]:
    return [" ".join(citation.quote.split()) for citation in citations]


def stand_word_for_word(citations: tuple[Citation, ...], corpus: Corpus) -> bool:
    text_by_name = {document.name: document.text for document in corpus.documents}
    return all(
        citation.quote
        and text_by_name[citation.document][citation.start : citation.end] == citation.quote
        and citation.line == text_by_name[citation.document].count("\n", 0, citation.start) + 1
        for citation in citations
    )


@pytest.mark.parametrize("value", ["30 days", 30, "thirty", "30 days after receipt of the notice"])
def test_the_sentence_with_the_value_is_quoted_with_its_document_and_line(corpus: Corpus, value: JsonValue) -> None:
    cited = cite(value, search(corpus, "days"), [], corpus, question="Within how many days may a violation be cured?")
    assert cited[0].document == "licences/north-wind"
    assert cited[0].line == 16
    assert quotes(cited) == [
        "They are reinstated permanently if You cure the violation prior to thirty (30) days after Your receipt of the "
        "notice."
    ]
    assert stand_word_for_word(cited, corpus)


def test_an_answer_in_other_words_rests_on_the_passage_that_shares_its_rare_words(corpus: Corpus) -> None:
    answer = "Modified files need prominent notices that say they were changed"
    cited = cite(answer, search(corpus, "[Nn]otice"), [], corpus, question="What about modified files?")
    assert quotes(cited) == [
        "(a) You must cause any modified files to carry prominent notices stating that You changed the files; and"
    ]


def test_a_plain_yes_rests_on_the_passage_that_speaks_of_the_question(corpus: Corpus) -> None:
    question = "Must recipients get a copy of the license?"
    for value in (True, "Yes"):
        assert quotes(cite(value, search(corpus, "recipient"), [], corpus, question=question)) == [
            "(b) You must give every recipient a copy of this License."
        ]


def test_the_same_sentence_in_two_documents_is_quoted_once_from_the_one_that_the_question_names(corpus: Corpus) -> None:
    printed = search(corpus, "WARRANTY")
    first = cite("AS IS, without warranty", printed, [], corpus, question="On what terms is the work provided?")
    named = cite("AS IS, without warranty", printed, [], corpus, question="On what terms is the South Shore provided?")
    assert [citation.document for citation in first] == ["licences/north-wind"]
    assert [citation.document for citation in named] == ["licences/south-shore"]


@pytest.mark.parametrize(
    "reading",
    [
        pytest.param("Read this and answer in one word:\n\n{part}\n\nWhich state's law?", id="a sub-call's prompt"),
        pytest.param("{listed}", id="a printed list of lines"),
        pytest.param("17: {line}", id="a printed line with its number"),
    ],
)
def test_text_that_a_sub_call_or_a_print_showed_is_found_again_in_its_document(corpus: Corpus, reading: str) -> None:
    south = corpus.documents[1].text
    line = next(line for line in south.splitlines() if "California" in line)
    shown = reading.format(part=south[150:], listed=south.splitlines(), line=line.strip())
    cited = cite("California", [], ["nothing of note", shown], corpus)
    assert quotes(cited) == [
        "2. This License is governed by the law of the State of California, without regard to its conflict of law "
        "rules."
    ]
    assert stand_word_for_word(cited, corpus)


def test_what_stands_in_a_prompt_but_in_no_document_is_never_cited(corpus: Corpus) -> None:
    reading = "The governing law of this agreement is the law of Atlantis, as everybody in the business knows."
    assert cite("Atlantis", [], [reading], corpus) == ()


def test_a_passage_that_the_run_never_read_is_never_cited(corpus: Corpus) -> None:
    assert cite("California", search(corpus, "Contributor"), [], corpus) == ()


@pytest.mark.parametrize("value", [None, "", "a banana", "cheese from the moon", [], {}, 99])
def test_an_answer_that_nothing_supports_has_no_citation(corpus: Corpus, value: JsonValue) -> None:
    assert cite(value, search(corpus, "days|Work"), list(map(str, corpus.documents)), corpus) == ()


def test_a_short_number_needs_a_word_of_the_question_beside_it(corpus: Corpus) -> None:
    printed = search(corpus, "Section")
    assert cite(2, printed, [], corpus, question="How many birds sing?") == ()
    assert quotes(cite(2, printed, [], corpus, question="Which section must one comply with?")) == [
        "If You fail to comply with Section 2, Your rights end."
    ]


def test_each_element_of_a_list_or_dict_is_cited_in_order_up_to_the_limit(corpus: Corpus) -> None:
    printed = search(corpus, "days|California|1,250,000|worldwide")
    cited = cite({"law": "California", "fee": 1250000, "grant": "worldwide"}, printed, [], corpus, limit=2)
    assert ["California" in cited[0].quote, "$1,250,000" in cited[1].quote] == [True, True]
    assert len(cited) == 2
    assert len(cite(["California", "California"], printed, [], corpus)) == 1


def test_spans_outside_of_their_documents_are_passed_over(corpus: Corpus) -> None:
    wild = [Span(9, 0, 5), Span(-1, 0, 5), Span(0, -3, 5), Span(0, 5, 5), Span(0, 0, 10**9)]
    assert cite("North Wind", wild, [], corpus) == ()


@given(
    value=st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.lists(st.text(max_size=8), max_size=3)),
    texts=st.lists(st.text(alphabet="ab1 .\nÀ", max_size=200), min_size=1, max_size=3),
    data=st.data(),
)
def test_every_quote_stands_word_for_word_at_its_offsets(
    value: JsonValue, texts: list[str], data: st.DataObject
) -> None:
    corpus = join([Document(str(number), text) for number, text in enumerate(texts)])
    offsets = st.integers(-2, 210)
    spans = data.draw(st.lists(st.builds(Span, st.integers(-1, 3), offsets, offsets), max_size=4))
    cited = cite(value, spans, [*texts, repr(texts)], corpus, question=data.draw(st.text(max_size=20)))
    assert len(cited) <= 3
    assert stand_word_for_word(cited, corpus)
    ranges = sorted((citation.document, citation.start, citation.end) for citation in cited)
    assert all(one[0] != two[0] or one[2] <= two[1] for one, two in itertools.pairwise(ranges))


# For the edges of what is cut out around a passage: long lines, ends behind abbreviations, no blank at all.
SENTENCES = [
    "The fee is 30 euros. ",
    "Art. 7 says no. ",
    "\n",
    "\n\n",
    "a Dr. B. is due; ",
    "x" * 150,
    "e.g. 1,250 days. ",
    "à la ",
]
PAGES = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=120).map("".join)


@given(
    value=st.sampled_from(["30 euros", 7, "fee", "no", 1250, ["30", "Art. 7"], "x" * 40]),
    pages=st.lists(PAGES, min_size=1, max_size=2),
    data=st.data(),
)
def test_a_sealed_document_is_cited_as_a_str_is(value: JsonValue, pages: list[str], data: st.DataObject) -> None:
    corpus = join([Document(str(number), text) for number, text in enumerate(pages)])
    offsets = st.integers(0, len(pages[0]))
    spans = data.draw(st.lists(st.builds(Span, st.integers(0, 1), offsets, offsets), max_size=4))
    readings = [pages[0][data.draw(offsets) :][:900]]
    cited = cite(value, spans, readings, corpus, question="What is the fee?")
    assert cite(value, spans, readings, sealed(corpus.documents), question="What is the fee?") == cited


def test_an_answer_of_any_size_is_read_as_far_as_it_can_matter() -> None:
    """Hostile code may answer with a megabyte: what is built from it must not be its square."""
    text = "The fee is 30 euros."
    corpus = join([Document("rules.txt", text)])
    long_key = " ".join(f"w{number}" for number in range(20_000))
    value: JsonValue = {long_key: {f"k{number}": number for number in range(20_000)}}
    tracemalloc.start()
    cite(value, [Span(0, 0, len(text))] * 4_096, [text], corpus)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 64 << 20


def test_what_an_answer_names_comes_first_and_others_follow(corpus: Corpus) -> None:
    named = search(corpus, "prominent notices", context=0)
    cited = cite("30 days", search(corpus, "days"), [], corpus, sources=named)
    assert "prominent notices" in cited[0].quote
    assert any("thirty (30) days" in quote for quote in quotes(cited)[1:])
    assert stand_word_for_word(cited, corpus)


def test_of_a_whole_document_that_is_named_the_value_is_quoted(corpus: Corpus) -> None:
    index = next(at for at, one in enumerate(corpus.documents) if one.name == "licences/north-wind")
    whole = Span(index, 0, len(corpus.documents[index].text))
    (cited,) = cite("30 days", [], [], corpus, sources=[whole])
    assert "thirty (30) days" in " ".join(cited.quote.split())


def test_as_many_passages_as_are_named_are_cited() -> None:
    rules = [f"Rule {number}: the fee of room {number} is {10 * number} euros a night." for number in range(1, 9)]
    corpus = join([Document("rules.txt", "\n".join(rules))])
    named = search(corpus, r"Rule \d", context=0)
    cited = cite("360 euros", [], [], corpus, sources=named)
    assert quotes(cited) == rules
    assert stand_word_for_word(cited, corpus)
