"""Tasks of every kind that a run has to end well, in turn: how often it does not is counted over them."""

from __future__ import annotations

from dataclasses import replace

from bench.haystack import CountTokens
from bench.tasks import absent, contracts, needles, pairs, windows
from bench.tasks.task import Family, Maker, Sources, Task

_BY_NAME = {family.name: family for family in (*needles.FAMILIES, *windows.FAMILIES)}
PARTS: tuple[Family, ...] = (
    _BY_NAME["niah"],
    _BY_NAME["multivalue"],
    _BY_NAME["oolong-spam"],
    contracts.FAMILY,
    absent.FAMILY,
    _BY_NAME["multiquery"],
    _BY_NAME["oolong-trec"],
    pairs.FAMILY,
)


async def plan(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
    makers = [await part.plan(sources, tokens, seed, count) for part in PARTS]

    def make(index: int) -> Task:
        number, part = divmod(index, len(PARTS))
        task = makers[part](number)
        return replace(
            task, family="mixed", index=index, kind=PARTS[part].name, facts={**task.facts, "kind": task.kind}
        )

    return make


FAMILY = Family("mixed", "needles, counting, contracts, pairs and absent answers in turn", plan)
