"""OOLONG-like tasks without a model, in a real jail: what comes out is just what the labels come to."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bench.arms.bm25 import Index
from bench.arms.codeact import Retriever
from bench.haystack import DEFAULT_DATA
from bench.mechanics import LIMITS, Mechanics, labels_of, measure_mechanics
from bench.tasks.families import FAMILIES
from bench.tasks.lines import SETS
from bench.tasks.pairs import QUERIES
from bench.tasks.task import Sources, Task
from bench.tasks.windows import KINDS
from rlm_local.documents import join
from rlm_local.jail import JailSession
from rlm_local.testing import ScriptedEngine
from rlm_local.types import GrammarMode

pytestmark = pytest.mark.jail

FILES = {f"oolong-{lines.name}": lines.file for lines in SETS} | {"pairs": SETS[0].file}


NUMBERS = {"oolong-trec": range(KINDS), "pairs": range(0, QUERIES, 3)}


async def mechanics(family: str, *, accuracy: float, numbers: Iterable[int]) -> Mechanics:
    if not (DEFAULT_DATA / FILES[family]).exists():
        pytest.skip(f"no {FILES[family]} in {DEFAULT_DATA}")
    make = await FAMILIES[family].plan(Sources(DEFAULT_DATA), 8_192, 1, ScriptedEngine([]).count_tokens)
    tasks: list[Task] = [make(index) for index in numbers]
    return await measure_mechanics(tasks, 8_192, accuracy, 1, lambda line: None)


@pytest.mark.parametrize("family", list(FILES))
async def test_labelled_by_gold_every_task_scores_one(nsjail: None, family: str) -> None:
    found = await mechanics(family, accuracy=1.0, numbers=NUMBERS.get(family, range(7)))
    assert [run.kind for run in found.runs if not run.is_exact or run.score != 1.0] == []


@pytest.mark.parametrize("family", list(FILES))
async def test_labelled_right_nine_times_in_ten_the_answer_is_exactly_what_that_gives(
    nsjail: None, family: str
) -> None:
    found = await mechanics(family, accuracy=0.9, numbers=range(1, 20, 3))
    assert [run.kind for run in found.runs if not run.is_exact] == []
    # The table of gold labels with 10 % errors at 8,192 tokens: 0.78 for windows, 0.68 for pairs; few tasks here.
    assert 0.4 < sum(run.score for run in found.runs) / len(found.runs) < 0.98


async def test_a_tenth_of_the_labels_is_wrong() -> None:
    if not (DEFAULT_DATA / SETS[0].file).exists():
        pytest.skip(f"no {SETS[0].file} in {DEFAULT_DATA}")
    make = await FAMILIES["oolong-trec"].plan(Sources(DEFAULT_DATA), 65_536, 1, ScriptedEngine([]).count_tokens)
    task = make(0)
    given = labels_of(task, 0.9, 1)
    wrong = sum(given[text] != label for text, label in task.labels.items()) / len(given)
    assert 0.07 < wrong < 0.13
    assert labels_of(task, 1.0, 1) == task.labels


LOOK = """
import builtins, os
found = []
for name, value in list(globals().items()):
    if name not in ("context", "documents", "question", "found", "name", "value", "wanted"):
        said = repr(value)
        found += [name for one in wanted if one in said]
try:
    found += os.listdir({data!r})
except OSError as error:
    print(type(error).__name__)
print(found)
"""


@pytest.mark.parametrize("family", ["oolong-trec", "oolong-spam"])
async def test_no_gold_label_is_in_the_jail_of_a_run(nsjail: None, family: str) -> None:
    if not (DEFAULT_DATA / FILES[family]).exists():
        pytest.skip(f"no {FILES[family]} in {DEFAULT_DATA}")
    make = await FAMILIES[family].plan(Sources(DEFAULT_DATA), 8_192, 1, ScriptedEngine([]).count_tokens)
    task = make(0)
    request = task.request(LIMITS, GrammarMode.OFF, typed=True)
    notes = {"question": request.question}
    names = sorted(set(task.labels.values()))
    async with await JailSession.start(join(request.documents), LIMITS, notes=notes) as repl:
        code = f"wanted = {names!r}" + LOOK.format(data=str(DEFAULT_DATA))
        result = await repl.execute(code, wall_s=60, query=Retriever(Index([])))
    assert result.error == ""
    assert result.stdout.splitlines()[1:] == ["[]"]
    assert result.stdout.startswith(("FileNotFoundError", "PermissionError"))
