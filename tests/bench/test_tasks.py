"""Every family of tasks: its gold scores 1, a seed makes the same tasks again, and the gold is nowhere in reach."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random

import pytest

from bench.haystack import DEFAULT_DATA
from bench.tasks import contracts, multihop, studies
from bench.tasks.families import FAMILIES
from bench.tasks.fill import fill
from bench.tasks.lines import SETS, by_label, read_lines
from bench.tasks.scoring import ABSENT, as_text, strings
from bench.tasks.task import Sources, Task, count_task
from bench.tasks.windows import KINDS, Window, draw_window
from rlm_local.errors import ConfigError
from rlm_local.grammar import AnswerSchema
from rlm_local.limits import Limits
from rlm_local.types import Document, GrammarMode

NEEDED = dict.fromkeys(FAMILIES, SETS[0].file) | {
    "oolong-spam": SETS[1].file,
    "oolong-subjectivity": SETS[2].file,
    "code": "",
    "multihop": multihop.QUESTIONS,
    "contracts": contracts.CLAUSES,
    "charts": "synthea/facts.jsonl.gz",
    "studies": studies.STUDIES,
    "absent": "synthea/facts.jsonl.gz",
    "mixed": contracts.CLAUSES,
}
TOKENS, NUMBER = 8_192, 20


async def count_chars_by_four(text: str) -> int:
    return -(-len(text) // 4)


_made: dict[tuple[str, int], list[Task]] = {}


async def tasks_of(family: str, seed: int = 3) -> list[Task]:
    """Return 20 tasks of 8,192 tokens; skips, with the reason, where the data is not here."""
    if not (DEFAULT_DATA / NEEDED[family]).exists():
        pytest.skip(f"no {NEEDED[family]} in {DEFAULT_DATA}")
    if (family, seed) not in _made:
        make = await FAMILIES[family].plan(Sources(DEFAULT_DATA), TOKENS, seed, count_chars_by_four)
        _made[family, seed] = [make(index) for index in range(NUMBER)]
    return _made[family, seed]


def in_reach(task: Task) -> str:
    """Return every character that whoever answers can come to."""
    asked = task.request(Limits(), GrammarMode.SKELETON, typed=True)
    return "\n".join([asked.question, *(f"{one.name}\n{one.path}\n{one.text}" for one in asked.documents)])


every_family = pytest.mark.parametrize("family", list(FAMILIES))


@every_family
async def test_gold_scores_one_and_floors_stay_below(family: str) -> None:
    tasks = await tasks_of(family)
    assert [task.score(task.gold) for task in tasks] == [1.0] * NUMBER
    said = [task for task in tasks if "pairs of user ids" not in task.question]  # whose text form has brackets
    assert [task.score(as_text(task.gold)) for task in said] == [1.0] * len(said)
    for name in {name for task in tasks for name in task.floors}:
        points = [task.score(task.floors[name]) for task in tasks if name in task.floors]
        if len(points) >= 4:  # a kind comes round in four tasks at most; `mixed` has fewer of each here
            assert sum(points) / len(points) < 0.95, name


@every_family
async def test_nothing_scores_nothing(family: str) -> None:
    tasks = await tasks_of(family)
    assert all(task.score(None) == 0.0 for task in tasks)
    assert all(task.score("I do not know") == 0.0 for task in tasks if task.gold not in ([], ABSENT))


@every_family
async def test_a_seed_makes_the_same_tasks_in_any_order_and_another_seed_makes_others(family: str) -> None:
    tasks = await tasks_of(family)
    make = await FAMILIES[family].plan(Sources(DEFAULT_DATA), TOKENS, 3, count_chars_by_four)
    assert [make(index).sha256 for index in (7, 2, 0)] == [tasks[index].sha256 for index in (7, 2, 0)]
    other = await FAMILIES[family].plan(Sources(DEFAULT_DATA), TOKENS, 4, count_chars_by_four)
    assert {other(index).sha256 for index in range(5)}.isdisjoint(task.sha256 for task in tasks)


@every_family
async def test_a_task_is_not_longer_than_asked_for_and_names_its_documents_once(family: str) -> None:
    for task in await tasks_of(family):
        counted = await count_task(task, count_chars_by_four)
        assert 0.5 * TOKENS < counted <= TOKENS * 1.03  # the question comes on top of what is filled
        assert len({document.name for document in task.documents}) == len(task.documents)


@every_family
async def test_gold_is_of_the_answers_own_schema(family: str) -> None:
    for task in await tasks_of(family):
        if task.answer_schema is not None:
            assert AnswerSchema(task.answer_schema).mismatch(task.gold) == ""


@every_family
async def test_tasks_of_a_run_differ_in_kind(family: str) -> None:
    kinds = {task.kind for task in await tasks_of(family)}
    assert len(kinds) >= {"niah": 1, "multikey": 1, "multivalue": 1, "multiquery": 1}.get(family, 2)


# --- the gold is nowhere in reach ---------------------------------------------------------------------------


@pytest.mark.parametrize("lines", SETS, ids=lambda lines: lines.name)
def test_a_window_is_the_same_text_whatever_the_labels_of_its_lines_are(lines: object) -> None:
    chosen = next(one for one in SETS if one is lines)
    if not (DEFAULT_DATA / chosen.file).exists():
        pytest.skip(f"no {chosen.file} in {DEFAULT_DATA}")
    window = draw_window(chosen, by_label(read_lines(Sources(DEFAULT_DATA), chosen.file)), 20_000, Random(1))
    turned = dict(zip(chosen.labels, [*chosen.labels[1:], chosen.labels[0]], strict=True))
    other = Window(chosen, tuple(replace(line, label=turned[line.label]) for line in window.lines))
    assert other.rows() != window.rows()
    assert other.text == window.text


@pytest.mark.parametrize("family", ["oolong-trec", "oolong-spam", "oolong-subjectivity", "pairs"])
async def test_lines_hold_day_user_and_text_and_nothing_else(family: str) -> None:
    for task in await tasks_of(family):
        (document,) = task.documents
        lines = [line for line in document.text.split("\n") if line.startswith("Date: ")]
        assert len(lines) == task.facts["lines"]
        texts = [line.split(" || Instance: ", 1)[1] for line in lines]
        assert set(texts) == set(task.labels)
        assert all(line.count(" || ") - text.count(" || ") == 2 for line, text in zip(lines, texts, strict=True))


@cache
def study_conclusions() -> dict[str, str]:
    records = json.loads((DEFAULT_DATA / studies.STUDIES).read_text(encoding="utf-8"))
    return {number: one["LONG_ANSWER"] for number, one in records.items()}


async def test_no_study_shows_its_conclusion() -> None:
    for task in await tasks_of("studies"):
        for document in task.documents:
            assert study_conclusions()[document.name] not in document.text


async def test_a_contract_is_its_text_under_a_number_that_says_nothing() -> None:
    tasks = await tasks_of("contracts")
    folder = DEFAULT_DATA / contracts.TEXTS
    texts = {path.read_bytes().decode("utf-8", "replace") for path in folder.glob("*.txt")}
    with (DEFAULT_DATA / contracts.CLAUSES).open(encoding="utf-8-sig", newline="") as file:
        answers = [name for name in next(csv.reader(file)) if name.endswith("-Answer")]
    for task in tasks:
        assert all(document.text in texts for document in task.documents)
        assert all(document.name[0] == "C" and document.name[1:].isdigit() for document in task.documents)
        assert not any(name in in_reach(task) for name in answers)


async def test_a_chart_and_a_passage_are_what_the_data_has() -> None:
    charts = await tasks_of("charts")
    whole = gzip.decompress((DEFAULT_DATA / "synthea/charts.txt.gz").read_bytes()).decode("utf-8")
    assert all(document.text in whole for task in charts for document in task.documents)
    passages = json.loads((DEFAULT_DATA / multihop.CORPUS).read_text(encoding="utf-8"))
    for task in await tasks_of("multihop"):
        for document in task.documents:
            assert document.text == " ".join("".join(passages[document.name]).split())
        assert set(strings(task.facts["needed"])) <= {document.name for document in task.documents}


async def test_what_is_absent_is_not_there_and_what_is_there_is() -> None:
    for task in await tasks_of("absent"):
        text = "\n".join(document.text for document in task.documents)
        if task.kind.startswith("needle"):
            key = task.question.split(" for ")[1].split("?")[0]
            assert (key in text) is task.kind.endswith("there")
        else:
            medicine, patient = task.question.split("'")[1], task.question.split(" for ")[1].split("?")[0]
            chart = next(document.text for document in task.documents if document.name == patient)
            assert (medicine in chart) is task.kind.endswith("there")
        assert (task.gold == ABSENT) is task.kind.endswith("absent")


async def test_code_questions_are_answered_by_their_own_files() -> None:
    for task in await tasks_of("code"):
        text = "\n".join(document.text for document in task.documents)
        if task.kind == "list subclasses":
            assert all(f"class {name}" in text for name in strings(task.gold))
        if task.kind == "default value":
            assert f"={as_text(task.gold)}" in text.replace('"', "'").replace(" ", "") or as_text(task.gold) in text


# --- drawing ------------------------------------------------------------------------------------------------


def test_a_window_that_holds_no_lines_is_refused_with_both_numbers() -> None:
    texts: dict[str, Sequence[str]] = {label: [f"{label} {n}" for n in range(9)] for label in SETS[1].labels}
    with pytest.raises(ConfigError, match=r"900 characters hold \d lines, but a window has at least 8"):
        draw_window(SETS[1], texts, 900, Random(1))


async def test_every_kind_of_question_comes_up_in_as_many_tasks_as_there_are() -> None:
    kinds = {task.kind for task in await tasks_of("oolong-trec")}
    # Few lines seldom have one day with more of them than any other.
    assert len(kinds) == KINDS - ("most frequent day" not in kinds)


def test_filling_takes_what_fits_and_always_what_is_needed() -> None:
    needed, others = Document("needed", "x" * 90), [Document(f"d{n}", "y" * 40) for n in range(5)]
    assert [one.name for one in fill([needed], others, 100, Random(1))] == ["needed"]
    assert {one.name for one in fill([], [needed, *others], 100, Random(1))} == {"needed"}
    assert len(fill([], others, 100, Random(1))) == 2
