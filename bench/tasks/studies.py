"""PubMedQA's studies: one question among many abstracts, and how many of them conclude what.

An abstract's conclusion, from which the gold was made, is not part of the documents.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass

from bench.haystack import CountTokens
from bench.tasks import scoring
from bench.tasks.fill import fill, shuffled
from bench.tasks.task import Family, Maker, Sources, Task, characters
from rlm_local.types import Document, JsonValue

STUDIES = "pubmedqa/pqal_train500.json"
DECISIONS = ("yes", "no", "maybe")


@dataclass(frozen=True, slots=True)
class Study:
    number: str  # PubMed's
    question: str
    abstract: str  # without its conclusion
    decision: str


def read_studies(sources: Sources) -> list[Study]:
    """Return every study, as three readers have judged it."""
    records = json.loads(sources.read(STUDIES))
    return [
        Study(number, one["QUESTION"], "\n".join(one["CONTEXTS"]), one["final_decision"])
        for number, one in sorted(records.items())
    ]


async def plan(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
    studies = read_studies(sources)
    chars = await characters(tokens, "\n".join(one.abstract for one in studies), count)

    def make(index: int) -> Task:
        draw = random.Random(f"studies {seed} {index}")
        order = shuffled(studies, draw)
        return _single(index, order, chars, draw) if index % 2 == 0 else _counted(index, order, chars, draw)

    return make


def _single(index: int, order: list[Study], chars: int, draw: random.Random) -> Task:
    """One question whose study is somewhere among others; it is not said which."""
    texts = [Document(one.number, one.abstract) for one in order]
    documents = fill(texts[:1], texts[1:], chars, draw)
    return Task(
        family="studies",
        index=index,
        kind="single",
        documents=tuple(documents),
        question=f"{order[0].question} Answer yes, no or maybe, by what the studies found.",
        gold=order[0].decision,
        scorer=scoring.word,
        answer_schema={"enum": list(DECISIONS)},
        floors={"always yes": "yes"},
        facts={"studies": len(documents)},
    )


def _counted(index: int, order: list[Study], chars: int, draw: random.Random) -> Task:
    """How many of the studies answer their own question in one way."""
    by_number = {one.number: one for one in order}
    texts = [Document(one.number, f"Question: {one.question}\n{one.abstract}") for one in order]
    documents = fill((), texts, chars, draw) or fill(texts[:1], (), chars, draw)
    decisions = Counter(by_number[document.name].decision for document in documents)
    asked = DECISIONS[index // 2 % len(DECISIONS)]
    schema: JsonValue = {"type": "integer"}
    shares = {"yes": 0.55, "no": 0.34, "maybe": 0.11}  # of all studies
    return Task(
        family="studies",
        index=index,
        kind="counted",
        documents=tuple(documents),
        question=(
            f"Each of the {len(documents)} documents is a study with the question that it asks. How many of them "
            f"answer their question with '{asked}'? Each answers with yes, no or maybe. Answer with the number."
        ),
        gold=decisions[asked],
        scorer=scoring.count,
        answer_schema=schema,
        floors={"usual share": round(len(documents) * shares[asked])},
        labels={str(document.text): by_number[document.name].decision for document in documents},
        facts={"studies": len(documents)},
    )


FAMILY = Family("studies", "medical studies: one among many, and how many conclude yes, no or maybe (PubMedQA)", plan)
