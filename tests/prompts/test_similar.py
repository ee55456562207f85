"""A question over lines, or over many documents, comes with the programs that answered the likest ones."""

from __future__ import annotations

import re

import pytest

from rlm_local.prompts import Situation, load_profile, opening_messages
from rlm_local.prompts.similar import Field, Program, fields_of, places, similar

TABLE = "All visits, a line each.\n\n2021-03-04 | anna | flu\n2021-03-05 | omar | a cut\n2021-03-09 | chen | flu\n"
PROGRAMS = (
    Program("How many visits were there in May?", "count"),
    Program("Which doctor has the most visits?", "top"),
    Program("List all pairs of doctors who saw the same patient.", "pairs"),
)


def asked(question: str, head: str, profile: str = "small", names: tuple[str, ...] = ("visits.txt",)) -> str:
    situation = Situation(question, names, 5_000, 4_000, 12_000, 6, head)
    return opening_messages(load_profile(profile), situation)[-1].content


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Who repairs the roof?", []),
        ("Which doctor has the most visits in May?", ["count", "top"]),
        ("Were it fewer in July?", ["count"]),
        ("List every pair of nurses", ["pairs"]),
        ("", []),
    ],
)
def test_the_likest_come_last_and_what_is_not_like_does_not_come(question: str, found: list[str]) -> None:
    assert [one.code for one in similar(question, PROGRAMS)] == found


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        (TABLE, {0: "2021-03-09", 1: "chen", 2: "flu"}),
        ("a\tb\n" * 3, {0: "a", 1: "b"}),
        ("id,name,city\n1,anna,Porto\n2,ben,Lisbon\n", {"id": 2, "name": "ben", "city": "Lisbon"}),
        ('id,name,kind\n1,"Smith, John",bill\n2,"Doe, Jane",fault\n', {"id": 2, "name": "Doe, Jane", "kind": "fault"}),
        ("Day: 4 March || User: 7\nDay: 5 March || User: 9\n", {"Day": "5 March", "User": 9}),
        ("| day | who |\n| --- | --- |\n| 2021 | anna |\n", {"day": 2021, "who": "anna"}),
        ("4411 | \nA77 | x\n0 | \n", {0: "0", 1: "x"}),
        ("7 | 0\n8 | 0\n", {0: 8, 1: 0}),
        ("", {}),
        ("2021 | a\nThe end.\n", {}),
        ("Dear Sir,\nI write, as before,\n", {}),
        ("LEASE between A, the landlord, and B.\n\nRent is due monthly.\nNotice, if any, is ninety days.\nEnd.\n", {}),
        ("The parties, as named,\nhave agreed\nthat, by law,\nthe tenant, who pays,\nowes rent.\n", {}),
    ],
)
def test_lines_have_the_fields_that_table_finds_in_them(head: str, fields: dict[object, object]) -> None:
    assert {field.name: field.value for field in fields_of(head)} == fields


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (1, "omar", "is like 'omar'"),
        ("User", 49822, "(User) is a number like 49822"),
        (1, -3.5, "is a number like -3.5"),
        (1, "007", "is like '007'"),
        ("Date", "2024-12-04", "(Date) is a day like '2021-05-03'"),
        (1, "2021-03-05 09:12", "is a day like '2021-05-03'"),
        (1, "2021-03-05x", "is like '2021-03-05x'"),
        (1, "b" * 31, f"is like '{'b' * 30}...'"),
        ("Text", "b" * 31, f"(Text) is like '{'b' * 24}...'"),
        ("n" * 99, "b" * 999, f"({'n' * 30}...) is like '{'b' * 10}...'"),
    ],
)
def test_the_model_is_told_what_stands_at_which_place_of_a_row(name: object, value: object, told: str) -> None:
    assert places((Field(0, "a"), Field(name, value))) == f"row[0] is like 'a', row[1] {told}"


def test_of_very_many_places_the_first_are_told() -> None:
    assert places([Field(at, "a") for at in range(40)]).endswith("row[15] is like 'a', and so on up to row[39]")


def test_of_the_lines_that_it_is_asked_about() -> None:
    assert "row[1] is like 'chen'" in asked("In how many months was flu the most frequent kind?", TABLE)


def test_a_question_over_lines_comes_with_programs_before_it() -> None:
    text = asked("In how many months was flu the most frequent kind?", TABLE)
    assert text.count("```repl") == 2
    assert text.index("most frequent kind of message?") < text.index("Question: In how many months was flu")


@pytest.mark.parametrize("question", ["Who has to repair the roof?", "What is the magic number of horrible-savage?"])
def test_a_question_of_another_kind_comes_alone(question: str) -> None:
    assert asked(question, TABLE).startswith("Question: ")


def test_a_text_that_is_no_table_and_a_profile_without_programs_show_none() -> None:
    question = "In how many months was flu the most frequent kind?"
    assert asked(question, "A letter.\nDear Marie,\nit rains.\n").startswith("Question: ")
    assert "```repl" not in asked(question, TABLE, "large")


@pytest.mark.parametrize("at", range(11))
def test_a_program_of_the_small_profile_runs_and_prints_what_it_is_asked(
    at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    program = load_profile("small").programs[at]
    code = re.fullmatch(r"```repl\n(.*)\n```", program.code, re.DOTALL)
    assert code is not None
    rows = [
        ("2021-04-20", "anna", "complaint"),
        ("2021-05-03", "anna", "praise"),
        ("2021-05-11", "yusuf", "praise"),
        ("2021-05-11", "omar", "question"),
    ]
    names = {"context": "", "table": lambda text: rows, "llm_classify": lambda items, labels: list(items)}
    exec(code[1], names)
    printed = [
        "2",
        "2",
        "[('praise', 2), ('complaint', 1)]",
        "as often",
        "1",
        "1 months, first 2021-04",
        "[('anna', 1)]",
        "[('2021-05-11', 2), ('2021-04-20', 1)]\n[('anna', 2), ('yusuf', 1)]",
        "before 0.0 after 0.6666666666666666",
        "[('anna', 'omar')]",
        "[('anna', 'omar')]",
    ]
    assert capsys.readouterr().out.strip() == printed[at]
    assert len(printed) == len(load_profile("small").programs)


@pytest.mark.parametrize(
    ("question", "calls"),
    [
        ("How many of the 31 patients have the diagnosis 'Gout' in their chart?", ["ask_each", "document.has("]),
        ("How many of our 200 contracts have a cap on liability?", ["ask_each", "document.has("]),
        ("What is the latest value of 'Oral temperature' in the chart of Ada Berg?", ["timeline", "entries[-1]"]),
        ("On which day was 'Naproxen' first ordered for Ada Berg?", ["timeline", "entries[0]"]),
        ("How many of the 59 patients have ever been diagnosed with high blood pressure?",
         ["listed(", "llm_filter(list("]),
        ("Which contracts have both kinds of clauses: A (May it end?), and B (Is it mutual?)? List their names.",
         ["ask_each"]),
        ("Quote word for word each passage of C1 that belongs to this kind of clause: Insurance. Is one kept?",
         ["llm_filter"]),
        ("Which band was founded first, the Kinks or the Zombies?", []),
        ("The law of which state governs the contract C1083? Answer with its name alone.", []),
    ],
)  # fmt: skip
def test_a_question_over_many_documents_comes_with_what_answered_the_likest(question: str, calls: list[str]) -> None:
    text = asked(question, "A letter.\nDear Marie,\nit rains.\n", names=("a.txt", "b.txt"))
    assert [call for call in calls if call not in text] == []
    assert ("Blocks that answered such questions about other documents:" in text) == bool(calls)
    assert text.startswith("Question: ")
    assert text.endswith(f"Now write the block for your question: {question}") == bool(calls)
    assert "Blocks" not in asked(question, "A letter.\nDear Marie,\nit rains.\n")  # of one document


class Ship:
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def has(self, said: str) -> bool:
        return said in self.text


@pytest.mark.parametrize("at", range(9))
def test_a_program_of_documents_runs_and_prints_what_it_is_asked(at: int, capsys: pytest.CaptureFixture[str]) -> None:
    program = load_profile("small").programs_of_documents[at]
    code = re.fullmatch(r"```repl\n(.*)\n```", program.code, re.DOTALL)
    assert code is not None
    documents = [
        Ship("Mary Ann", "Remarks: Leak in the hull (mended); Rust\n"),
        Ship("Vega", "All well.\n  Remarks: Hole under the waterline\n"),
    ]
    names = {
        "documents": documents,
        "question": "Animals?",
        "search": lambda asked, **given: ["a dog", "rent"],
        "llm_query": lambda prompt, choices: choices["Animals?" in prompt and "a dog" in prompt],
        "llm_filter": lambda items, condition: [item for item in items if item not in ("rent", "Rust")],
        "listed": lambda label: {
            "Leak": {"Mary Ann"},
            "Rust": {"Mary Ann"},
            "A hole": {"Vega", "Mary Ann"},
        },
        "timeline": lambda said, name: [f"2021-03-04: {said} of {name}", f"2021-05-06: {said}"],
        "ask_each": lambda asked, labels: {"L1": "yes", "L2": "no" if "smoke" in asked else "yes"},
    }
    exec(code[1], names)
    printed = [
        "1 ['Mary Ann']",
        "['Mary Ann']",
        "2021-05-06: Oil pressure",
        "2021-03-04: Bilge pump of Mary Ann",
        "no",
        "2 of 2: ['L1', 'L2']",
        "2 of 2: ['Leak', 'A hole']",
        "['L1']",
        "['a dog']",
    ]
    assert capsys.readouterr().out.strip() == printed[at]
    assert len(printed) == len(load_profile("small").programs_of_documents)
