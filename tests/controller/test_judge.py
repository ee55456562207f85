"""What is taken for an answer, and on what grounds."""

from __future__ import annotations

import pytest

from rlm_local.controller.judge import Judge
from rlm_local.grammar import TurnState
from rlm_local.prompts import load_profile
from rlm_local.types import Cell, CellResult, CellStatus, Final, JsonValue, StopReason, SubCall, Turn, Usage

NOTHING = Usage(0, 0, 0)


def looked(printed: str, *answers: str) -> Turn:
    subcalls = tuple(SubCall(f"passage {at}", answer, NOTHING) for at, answer in enumerate(answers))
    return Turn("...", Cell(f"print({printed!r})"), NOTHING, CellResult(CellStatus.OK, printed, subcalls=subcalls))


def said(value: JsonValue) -> Turn:
    return Turn("...", Final(value), NOTHING)


def reasons(judge: Judge, *turns: Turn) -> list[str | None]:
    """Judge turns one by one; None for one that the run goes on after."""
    printed = [turn.result.stdout for turn in turns if turn.result]
    verdicts = [
        judge.judge(turns[:at], TurnState.OPEN, printed=printed, forced_by=None, why="")
        for at in range(1, len(turns) + 1)
    ]
    return [verdict.reason if verdict.value_given else None for verdict in verdicts]


@pytest.fixture
def judge() -> Judge:
    return Judge(load_profile("small"), "Who pays the fee?", None)


def test_that_the_documents_do_not_tell_is_supported_by_a_sub_model_that_read_in_vain(judge: Judge) -> None:
    assert reasons(judge, looked("The fee is 30 euros.", "Not in the text."), said("not in the documents")) == [
        None,
        "",
    ]


@pytest.mark.parametrize("answers", [(), ("30 euros",)], ids=["nobody was asked", "somebody found it"])
def test_without_one_it_is_sent_back_to_look_twice_and_then_unconfirmed(judge: Judge, answers: tuple[str, ...]) -> None:
    turns = [looked("The fee is 30 euros.", *answers), *[said("not in the documents")] * 3]
    verdicts = [
        judge.judge(turns[:at], TurnState.OPEN, printed=["The fee is 30 euros."], forced_by=None, why="")
        for at in range(1, 5)
    ]
    assert [verdict.look_first for verdict in verdicts] == [False, True, True, False]
    assert "search(question" in verdicts[1].note
    assert verdicts[3].reason == "nothing that was printed says so"


@pytest.mark.parametrize("printed", ["[]", "0 []\n", "the pairs:\nset()"])
def test_that_there_is_none_is_supported_by_code_that_found_none_in_what_sub_models_read(printed: str) -> None:
    for value in ("no pairs", "0", 0):
        seen = (looked("ada\nben", "spam", "ham"), looked(printed))
        assert reasons(Judge(load_profile("small"), "How many?", None), *seen, said(value)) == [None, None, ""]


@pytest.mark.parametrize(
    "turns",
    [
        [looked("[]")],
        [looked("[]"), looked("0 of 12 lines", "spam")],
        [looked("[3]", "spam")],
    ],
    ids=["nobody read anything", "found before anybody read", "something was found"],
)
def test_and_not_by_code_alone(judge: Judge, turns: list[Turn]) -> None:
    assert reasons(judge, *turns, said("no pairs"))[-1] is None


def test_nor_is_a_zero(judge: Judge) -> None:
    assert reasons(judge, looked("[]"), said(0), said(0))[-1] == "nothing that was printed says so"


def test_a_worked_examples_answer_is_sent_back_to_look(judge: Judge) -> None:
    turns = [looked("ada 30"), said("The maintenance of the building, its roof included, falls to the landlord.")]
    verdict = judge.judge(turns, TurnState.OPEN, printed=["ada 30"], forced_by=None, why="")
    assert verdict.look_first
    assert "Nothing that was printed says" in verdict.note


def test_unless_it_was_printed(judge: Judge) -> None:
    printed = "The maintenance of the building, its roof included, falls to the landlord."
    assert reasons(judge, looked(printed), said(printed)) == [None, ""]


def test_an_answer_whose_source_no_document_holds_may_be_mended_once(judge: Judge) -> None:
    invented = CellResult(CellStatus.OK, "", final=Final("30 euros", unfound=("The fee is thirty.",)))
    turns = [looked("The fee is 30 euros."), Turn("...", Cell("fee = 30"), NOTHING, invented)]
    assert reasons(judge, *turns) == [None, None]
    said_again = judge.judge(turns, TurnState.OPEN, printed=["30"], forced_by=None, why="")
    assert said_again.reason == (
        "the answer was not accepted: no document says 'The fee is thirty.', which it names as a source"
    )


@pytest.mark.parametrize(
    ("value", "stop"),
    [
        ("The code stopped at this error. What it made was there. Write only the rest.", True),
        ("The archive closes at noon, and the fee for a table by the window is 30 euros.", False),
        ("another way", False),
        ("It is not in the code, nor in what was there before: answer in another way.", False),
    ],
)
def test_what_only_repeats_our_own_words_is_no_answer(judge: Judge, value: str, stop: bool) -> None:
    turns = [looked("The fee is 30 euros."), said(value)]
    verdict = judge.judge(
        turns, TurnState.LAST, printed=["The fee is 30 euros."], forced_by=StopReason.TURN_LIMIT, why="all turns"
    )
    assert verdict.is_best_so_far is stop
    assert verdict.reason == "all turns"


def test_another_answer_is_not_supported_by_that(judge: Judge) -> None:
    turns = (looked("The fee is 30 euros.", "not in the text"), said("40 euros"), said("40 euros"))
    assert reasons(judge, *turns) == [None, None, "nothing that was printed says so"]


CHOICE = (
    "Is 'spam' more common than, less common than, or as common as 'ham'? "
    "Answer in the form 'Answer: RELATION' with 'more common than', 'less common than' or 'as common as'."
)


@pytest.mark.parametrize("value", ["more common than", "Answer: less common than", "As common as"])
def test_what_a_question_gives_to_choose_from_rests_on_anything_that_was_printed(value: str) -> None:
    choosing = Judge(load_profile("small"), CHOICE, None)
    assert reasons(choosing, looked("[('spam', 8), ('ham', 3)]"), said(value)) == [None, ""]


@pytest.mark.parametrize("value", ["rather common", "Answer: RELATION", "common spam filters"])
def test_and_nothing_else_does(value: str) -> None:
    choosing = Judge(load_profile("small"), CHOICE, None)
    turns = [looked("[8, 3]"), said(value), said(value)]
    assert reasons(choosing, *turns)[-1] == "nothing that was printed says so"


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("How many letters from 1881 or 1882 mention Lisbon?", "1881"),
        ("In which year did Paris or Lyon vote?", "In which year"),
        ("In which year did Paris or Lyon vote?", "Lyon"),
        ("Which contract mentions tax or duty?", "Which contract"),
    ],
)
def test_words_of_a_question_that_are_no_choice_or_a_fact_must_be_printed(question: str, value: str) -> None:
    turns = [looked("nothing of the kind"), said(value), said(value)]
    assert reasons(Judge(load_profile("small"), question, None), *turns)[-1] == "nothing that was printed says so"


def test_a_question_without_an_or_gives_nothing_to_choose_from() -> None:
    asking = Judge(load_profile("small"), "How much more common is spam? In March or before?", None)
    turns = [looked("[8, 3]"), said("more common"), said("more common")]
    assert reasons(asking, *turns)[-1] == "nothing that was printed says so"


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("ham", False),
        ("less common than", False),
        ("more common than", True),
        ("Answer: more common than", True),
        ("spam is more common than ham", True),
    ],
)
def test_the_choice_that_code_printed_last_is_not_passed_over(value: str, *, taken: bool) -> None:
    choosing = Judge(load_profile("small"), CHOICE, None)
    printed = looked("spam 8, ham 3\nmore common than\n")
    assert reasons(choosing, printed, said(value))[-1] == ("" if taken else None)
    told = ["spam 8, ham 3\nmore common than\n"]
    verdict = choosing.judge([printed, said("more common than")], TurnState.OPEN, printed=told, forced_by=None, why="")
    assert (verdict.value, verdict.reason) == ("more common than", "")


def test_another_choice_that_is_given_again_is_not_confirmed() -> None:
    choosing = Judge(load_profile("small"), CHOICE, None)
    turns = [looked("spam 8, ham 3\nmore common than"), said("less common than"), said("less common than")]
    assert reasons(choosing, *turns)[1:] == [
        None,
        "the answer was not accepted: the code printed 'more common than', one of those that the question gives to "
        "choose from",
    ]


def test_what_is_no_choice_gives_way_to_the_one_that_was_printed_unconfirmed() -> None:
    choosing = Judge(load_profile("small"), CHOICE, None)
    turns = [looked("spam 8, ham 3\nmore common than"), said("ham"), said("ham")]
    told = [reasons(choosing, *turns[:2])[-1]]
    printed = [turns[0].result.stdout] if turns[0].result else []
    last = choosing.judge(turns, TurnState.OPEN, printed=printed, forced_by=None, why="")
    assert (told, last.value) == ([None], "more common than")
    assert last.reason == "the code printed it, but the model answered 'ham', which is no choice"


def test_a_cell_that_only_answers_passes_it_over_like_a_final() -> None:
    choosing = Judge(load_profile("small"), CHOICE, None)
    result = CellResult(CellStatus.OK, "", final=Final("ham"))
    answering = Turn("...", Cell("FINAL('ham')"), NOTHING, result)
    assert reasons(choosing, looked("more common than\n"), answering) == [None, None]


def test_a_choice_among_other_words_is_no_answer_of_the_code() -> None:
    choosing = Judge(load_profile("small"), CHOICE, None)
    assert reasons(choosing, looked("is it more common than ham?"), said("less common than"))[-1] == ""


def test_a_choice_without_a_look_rests_on_nothing() -> None:
    choosing = Judge(load_profile("small"), CHOICE, None)
    failed = Turn("...", Cell("1 / 0"), NOTHING, CellResult(CellStatus.RAISED, "", error="ZeroDivisionError"))
    turns = [failed, *[said("more common than")] * 3]
    assert reasons(choosing, *turns) == [None, None, None, "nothing that was printed says so"]


@pytest.mark.parametrize(
    ("question", "value", "taken"),
    [
        ("How many of the 15 contracts are perpetual?", "no", False),
        ("How many are perpetual?", "Those of Ada Berg.", False),
        ("How many of the letters are sealed or signed?", "sealed", False),
        ("How many are perpetual?", "None of them.", True),
        ("How many are perpetual?", "Three", True),
        ("How many are perpetual?", "Twenty-two of them", True),
        ("How many are perpetual?", "9", True),
        ("How many are perpetual?", 9, True),
        ("Is it perpetual?", "no", True),
    ],
)
def test_how_many_is_answered_with_a_number_or_asked_once_more(question: str, value: JsonValue, taken: bool) -> None:
    printed = looked("0 []\nThose of Ada Berg: 9, Three, Twenty-two", "None of them.")
    judge = Judge(load_profile("small"), question, None)
    wrong = "the question asks how many: it has no number"
    assert reasons(judge, printed, said(value), said(value)) == [None, *([""] * 2 if taken else [None, wrong])]
    if not taken:
        note = Judge(load_profile("small"), question, None).judge(
            [printed, said(value)], TurnState.OPEN, printed=[], forced_by=None, why=""
        )
        assert note.note.startswith("Your answer has no number, and the question asks how many. Reply FINAL(")


YES_OR_NO = "Has the contract a licence that is perpetual? Answer yes or no."


@pytest.mark.parametrize("printed", ["table: the 2351 lines have no fields in common\n[]\n", "0\n", "Counter()"])
def test_yes_or_no_does_not_rest_on_code_that_found_nothing(printed: str) -> None:
    turns = [looked(printed), *[said("no")] * 3]
    judge = Judge(load_profile("small"), YES_OR_NO, None)
    verdicts = [
        judge.judge(turns[:at], TurnState.OPEN, printed=[printed], forced_by=None, why="") for at in range(1, 5)
    ]
    assert [verdict.look_first for verdict in verdicts] == [False, True, True, False]
    assert "search(question" in verdicts[1].note
    assert verdicts[3].reason == "nothing that was printed says so"


@pytest.mark.parametrize(
    "turns",
    [
        [looked("['C6154']")],
        [looked("C6154 12 No, it ends after a year.", "No, it ends after a year.")],
        [looked("[]"), looked("[]", "ham", "ham")],
        [looked("[]"), looked("3 2")],
    ],
    ids=["code found some", "a sub-model said so", "sub-models read, and code found none", "found at a second try"],
)
def test_but_on_whatever_was_found_or_read(turns: list[Turn]) -> None:
    assert reasons(Judge(load_profile("small"), YES_OR_NO, None), *turns, said("no"))[-1] == ""


@pytest.mark.parametrize(
    ("question", "documents", "asks_each"),
    [
        ("Which contracts have both kinds: Audit (Is there a right to audit?), and Tax? List their names.", 19, True),
        ("Which contracts have both kinds: Audit (Is there a right to audit?), and Tax? List their names.", 1, False),
        ("What is the latest value of 'Glucose' in the chart of Ada Berg?", 19, False),
        ("Who pays?", 19, False),
    ],
)
def test_who_finds_nothing_in_many_documents_is_shown_how_each_is_asked(
    question: str, documents: int, *, asks_each: bool
) -> None:
    judge = Judge(load_profile("small"), question, None, documents=documents)
    turns = [looked("[]"), said("no contracts")]
    judge.judge(turns[:1], TurnState.OPEN, printed=["[]"], forced_by=None, why="")
    note = judge.judge(turns, TurnState.OPEN, printed=["[]"], forced_by=None, why="").note
    assert ("ask_each(" in note) == asks_each
    assert note.endswith(question) == asks_each
