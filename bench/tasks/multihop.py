"""Questions that need two passages (HotpotQA), among the passages of all the others."""

from __future__ import annotations

import json
import random

from bench.haystack import CountTokens
from bench.tasks.fill import fill, shuffled
from bench.tasks.scoring import token_f1
from bench.tasks.task import Family, Maker, Sources, Task, characters
from rlm_local.types import Document

QUESTIONS = "multihop/hotpotqa_train.json"
CORPUS = "multihop/hotpotqa_train_corpus.json"


async def plan(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
    questions = json.loads(sources.read(QUESTIONS))
    corpus = json.loads(sources.read(CORPUS))
    passages = {title: Document(title, " ".join("".join(said).split())) for title, said in corpus.items()}
    chars = await characters(tokens, "\n".join(str(one.text) for one in passages.values()), count)

    def make(index: int) -> Task:
        asked = random.Random(f"multihop {seed} order {index // len(questions)}").sample(questions, len(questions))
        one = asked[index % len(questions)]
        draw = random.Random(f"multihop {seed} {index}")
        gold = list(dict.fromkeys(title for title, _ in one["supporting_facts"]))
        # The question's own distractors come first: short tasks are hard ones too.
        own = [passages[title] for title, _ in one["context"] if title in passages]
        first = [passages[title] for title in gold]
        documents = fill(first, [*own, *shuffled(passages.values(), draw)], chars, draw)
        return Task(
            family="multihop",
            index=index,
            kind=str(one["type"]),
            documents=tuple(documents),
            question=f"{one['question']} Answer in as few words as possible.",
            gold=one["answer"],
            scorer=token_f1,
            floors={"yes": "yes"},
            facts={"passages": len(documents), "needed": list(gold)},
        )

    return make


FAMILY = Family("multihop", "questions over two of up to 994 passages (HotpotQA); the arm closed is its control", plan)
