"""Questions whose answer is in one half of the tasks not there, and then that is the right answer.

Needles and charts, each asked for something that stands there and for something of the same kind that does
not. Who always says that it is not there scores one half.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from bench.haystack import CountTokens, cut, read_speeches, read_words
from bench.tasks.charts import read_patients
from bench.tasks.fill import fill, shuffled
from bench.tasks.needles import DOCUMENT_NAME, NIAH, draw_needles, insert
from bench.tasks.scoring import ABSENT, absent
from bench.tasks.task import FILLED, Family, Maker, Sources, Task, characters
from rlm_local.errors import ConfigError
from rlm_local.types import Document

ORDER = f"If the documents do not tell, answer exactly: {ABSENT}."


async def plan(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
    makers = [await _needles(sources, tokens, seed, count), await _charts(sources, tokens, seed, count)]

    def make(index: int) -> Task:
        is_there = index // len(makers) % 2 == 1
        kind, documents, question, gold = makers[index % len(makers)](index, is_there)
        return Task(
            family="absent",
            index=index,
            kind=f"{kind}, {'there' if is_there else 'absent'}",
            documents=documents,
            question=f"{question} {ORDER}",
            gold=gold if is_there else ABSENT,
            scorer=absent,
            floors={"always absent": ABSENT},
        )

    return make


_Half = Callable[[int, bool], tuple[str, tuple[Document, ...], str, str]]
"""Makes kind, documents, question, and the gold of a question whose answer is there."""


async def _needles(sources: Sources, tokens: int, seed: int, count: CountTokens) -> _Half:
    haystack, words = read_speeches(sources.folder), read_words(sources.folder)
    sources.sha256 |= {haystack.name: haystack.sha256, "ruler word lists": words.sha256}
    excerpt = await cut(haystack.sentences, max(1, int(tokens * FILLED)), count)
    hay = " ".join(haystack.sentences)

    def make(index: int, is_there: bool) -> tuple[str, tuple[Document, ...], str, str]:
        (asked,) = draw_needles(NIAH, words, seed, 2 * index, absent_from=hay)
        (other,) = draw_needles(NIAH, words, seed, 2 * index + 1, absent_from=hay + asked.key)
        # The other needle stands there always, so that one that looks like the answer is found either way.
        text = insert(excerpt.sentences(haystack), [asked, other] if is_there else [other])
        question = f"What is the special magic number for {asked.key}?"
        return "needle", (Document(DOCUMENT_NAME, text),), question, asked.value

    return make


async def _charts(sources: Sources, tokens: int, seed: int, count: CountTokens) -> _Half:
    patients = read_patients(sources)
    chars = await characters(tokens, max((one.text for one in patients), key=len), count)
    fitting = [one for one in patients if len(one.text) <= chars and len(one.medications) > 1]
    if not fitting:
        raise ConfigError(f"--tokens is {tokens}, but not even the shortest chart fits into it")
    ordered = sorted({name for one in patients for name, _ in one.medications})

    def make(index: int, is_there: bool) -> tuple[str, tuple[Document, ...], str, str]:
        draw = random.Random(f"absent {seed} {index}")
        order = shuffled(fitting, draw)
        patient = order[0]
        own = sorted({name for name, _ in patient.medications})
        foreign = [name for name in ordered if name.lower() not in patient.text.lower()]
        name = draw.choice(own if is_there else foreign)
        first = min((when for each, when in patient.medications if each == name), default="")
        texts = [Document(one.name, one.text) for one in order]
        documents = tuple(fill(texts[:1], texts[1:], chars, draw))
        question = f"On which day was '{name}' first ordered for {patient.name}? Answer as YYYY-MM-DD."
        return "chart", documents, question, first

    return make


FAMILY = Family("absent", "questions whose answer is not there in one half of the tasks", plan)
