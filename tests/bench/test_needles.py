from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from bench.arms.plain import direct_prompt
from bench.haystack import DEFAULT_DATA, Haystack, Words, read_speeches, read_words
from bench.provenance import ROOT
from bench.tasks.needles import (
    ANSWER_TOKENS,
    DEPTHS_PERCENT,
    NIAH,
    VARIANTS,
    Needle,
    NeedlePlan,
    Variant,
    draw_needles,
    insert,
    plan,
)
from bench.tasks.scoring import string_match_all, strings
from bench.tasks.task import Task
from rlm_local.errors import ConfigError

WORDS = Words(adjectives=("calm", "quick", "red"), nouns=("fox", "harbour", "teapot"), sha256="0" * 64)
SMALL = Haystack("small", "1" * 64, tuple(f"Sentence number {n} says little." for n in range(500)))

needs_data = pytest.mark.skipif(not (DEFAULT_DATA / "haystack").is_dir(), reason=f"no benchmark data in {DEFAULT_DATA}")


async def count_chars_by_four(text: str) -> int:
    return -(-len(text) // 4)


async def tasks_of(
    tokens: int, seed: int, number: int, haystack: Haystack = SMALL, variant: Variant = NIAH
) -> list[Task]:
    made: NeedlePlan = await plan(haystack, WORDS, tokens, seed, count_chars_by_four, variant)
    return list(made.tasks(number))


def text_of(task: Task) -> str:
    return task.documents[0].text


def direct(task: Task) -> str:
    return direct_prompt(task, text_of(task))


def draw_needle(words: Words, seed: int, index: int, *, absent_from: str = "") -> Needle:
    return draw_needles(NIAH, words, seed, index, absent_from=absent_from)[0]


async def test_the_needle_stands_in_the_text_exactly_once() -> None:
    for task in await tasks_of(4_000, seed=3, number=40):
        needle = Needle(str(task.facts["key"]), str(task.gold), 0)
        assert text_of(task).count(needle.sentence) == 1
        assert text_of(task).count(needle.key) == 1
        assert text_of(task).count(needle.value) == 1


async def test_the_needle_is_a_sentence_of_its_own_at_its_depth() -> None:
    for task in await tasks_of(4_000, seed=3, number=40):
        before, after = text_of(task).split(Needle(str(task.facts["key"]), str(task.gold), 0).sentence)
        sentences_before, sentences_after = before.count("Sentence"), after.count("Sentence")
        assert before == "" or before.endswith(". ") or after == ""
        assert after == "" or after.startswith(" Sentence")
        depth = int(str(task.facts["depth_percent"]))
        assert sentences_before == (sentences_before + sentences_after) * depth // 100


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
async def test_each_variant_asks_for_what_it_hid(variant: Variant) -> None:
    for task in await tasks_of(4_000, seed=3, number=20, variant=variant):
        hidden = re.findall(r"One of the special magic numbers for (\S+) is: (\d{7})\.", text_of(task))
        assert len(hidden) == variant.keys * variant.values
        assert len({key for key, _ in hidden}) == variant.keys
        asked = [value for key, value in hidden if key in task.question]
        assert sorted(asked) == sorted(strings(task.gold))
        assert len(asked) == variant.asked * variant.values
        assert task.score(task.gold) == 1.0


async def test_half_of_the_numbers_score_a_half() -> None:
    (task,) = await tasks_of(4_000, seed=3, number=1, variant=VARIANTS[2])
    assert task.score(" ".join(strings(task.gold)[:2])) == 0.5


async def test_the_same_seed_makes_the_same_tasks_and_another_seed_makes_others() -> None:
    assert await tasks_of(2_000, seed=5, number=6) == await tasks_of(2_000, seed=5, number=6)
    assert await tasks_of(2_000, seed=5, number=6) != await tasks_of(2_000, seed=6, number=6)


async def test_a_task_does_not_depend_on_how_many_tasks_there_are() -> None:
    assert (await tasks_of(2_000, seed=5, number=2)) == (await tasks_of(2_000, seed=5, number=9))[:2]


def test_needles_are_the_same_under_every_hash_seed() -> None:
    code = (
        "from bench.tasks.needles import NIAH, draw_needles; from bench.haystack import Words;"
        "print([draw_needles(NIAH, Words(('a', 'b', 'c'), ('x', 'y', 'z'), ''), 11, n) for n in range(5)])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1


@pytest.mark.parametrize("tokens", [1_000, 4_096, 20_000, 100_000])
async def test_a_task_has_the_length_asked_for_within_one_percent(tokens: int) -> None:
    (task,) = await tasks_of(tokens, seed=1, number=1)
    counted = await count_chars_by_four(direct(task)) + ANSWER_TOKENS
    assert counted == pytest.approx(tokens, rel=0.01)


async def test_a_haystack_that_is_too_short_is_repeated() -> None:
    (task,) = await tasks_of(20_000, seed=1, number=1)
    assert text_of(task).count("Sentence number 7 says little.") >= 4


async def test_a_length_that_holds_no_text_is_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"--tokens is 150, but prompt, needles and answer alone take \d+"):
        await tasks_of(150, seed=1, number=1)


async def test_a_sentence_longer_than_the_task_is_cut_between_words() -> None:
    long_start = Haystack("long", "", ("word " * 2_000 + "end.", "Short."))
    (task,) = await tasks_of(1_000, seed=1, number=1, haystack=long_start)
    assert text_of(task).endswith(" word word word")
    assert await count_chars_by_four(direct(task)) + ANSWER_TOKENS == pytest.approx(1_000, rel=0.01)


def test_a_key_that_stands_in_the_haystack_is_not_drawn() -> None:
    text = "The calm-fox and the calm-harbour, the calm-teapot, the quick-fox, the quick-harbour, the red-fox."
    assert {draw_needle(WORDS, 1, n, absent_from=text).key for n in range(30)} == {
        "quick-teapot",
        "red-harbour",
        "red-teapot",
    }


def test_the_depths_are_forty_even_steps_from_the_beginning_to_the_end() -> None:
    assert (len(DEPTHS_PERCENT), DEPTHS_PERCENT[0], DEPTHS_PERCENT[-1]) == (40, 0, 100)
    assert {late - early for early, late in pairwise(DEPTHS_PERCENT)} == {2, 3}


def test_a_needle_at_the_ends_stands_first_and_last() -> None:
    needles = {needle.depth_percent: needle for needle in (draw_needle(WORDS, 1, n) for n in range(2_000))}
    assert insert(["One.", "Two."], [needles[0]]) == f"{needles[0].sentence} One. Two."
    assert insert(["One.", "Two."], [needles[100]]) == f"One. Two. {needles[100].sentence}"


@pytest.mark.parametrize(
    ("answer", "points"),
    [
        ("1234567", 1.0),
        ("1234567.", 1.0),
        ("The number is **1234567**", 1.0),
        ("12345678", 1.0),  # RULER asks for a substring, and so do we
        ("7654321, 1234567", 1.0),  # the same leniency: one of several numbers is enough
        ("1,234,567", 0.0),
        ("1234 567", 0.0),
        ("123456", 0.0),
        ("", 0.0),
        ("None", 0.0),
    ],
)
def test_score_is_rulers_string_match(answer: str, points: float) -> None:
    assert string_match_all(answer, "1234567") == points


def test_score_knows_no_case() -> None:
    assert string_match_all("THE TEAPOT", "teapot") == 1.0


@needs_data
def test_the_speeches_are_sentences_without_file_headers() -> None:
    haystack = read_speeches(DEFAULT_DATA)
    assert len(haystack.sentences) > 10_000
    assert not any("#####" in sentence or "\n" in sentence for sentence in haystack.sentences)


@needs_data
async def test_a_task_of_real_speeches_has_the_length_asked_for_within_one_percent() -> None:
    made = await plan(read_speeches(DEFAULT_DATA), read_words(DEFAULT_DATA), 131_072, 11, count_chars_by_four)
    (task,) = made.tasks(1)
    counted = await count_chars_by_four(direct(task)) + ANSWER_TOKENS
    assert counted == pytest.approx(131_072, rel=0.01)
    assert task.facts["tokens"] == pytest.approx(counted, rel=0.001)


@needs_data
async def test_the_needles_are_those_of_the_reports() -> None:
    first = draw_needles(NIAH, read_words(DEFAULT_DATA), 11, 0)
    report = json.loads((ROOT / "bench/results/niah-2026-11-22-131k/result.json").read_text(encoding="utf-8"))
    row = report["rows"][0]
    assert [(one.key, one.value, one.depth_percent) for one in first] == [
        (row["facts"]["key"], row["gold"], row["facts"]["depth_percent"])
    ]


def test_data_that_is_not_there_is_named_with_the_flag_that_moves_it() -> None:
    with pytest.raises(ConfigError, match=r"us_presidential_speeches.txt.gz: No such file") as raised:
        read_speeches(DEFAULT_DATA / "nowhere")
    assert "--data" in raised.value.hint
