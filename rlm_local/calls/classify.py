"""llm_classify and llm_filter: every item scored over a prefix that all of them share.

The model's probability of each label is exact (the engine scores all labels in one pass), but it is not the chance
that the label is right: a small model prefers some words whatever stands before them. What it prefers is measured and
taken out (`prior.py`): with examples on the examples themselves, each half of them scored after the other half;
without on the items, and on texts that say nothing. With examples the first items of a call correct each other, and all
later ones, by how their scores lie and by the words that they share (`learned.py`). A second pass, where it is asked
for, has the items of which the first was surest as further examples.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeAlias

from rlm_local.calls.caller import Caller
from rlm_local.calls.checks import Labels
from rlm_local.calls.fan import Items, each, in_order
from rlm_local.calls.learned import Learned
from rlm_local.calls.prior import Prior, Scores, normalised
from rlm_local.calls.scorer import Scored, Scorer
from rlm_local.types import JsonValue, Message, Role, SubCall

Example: TypeAlias = "tuple[str, str]"  # item and label

_CLASSIFY = "Classify each text. Reply with one label and nothing else."
_FILTER = "Does the text meet the condition? Reply yes or no and nothing else.\nCondition: "
_YES_NO = Labels(("yes", "no"), ("", ""))
SILENT = ("", "N/A", "[MASK]", "...")  # texts that say nothing: what a model answers to them, it prefers
PRIOR_ITEMS = 512  # of a call, from which the rest is learned; the first answer waits for them
SURE_ITEMS = 5  # for each label: those that a second pass has as examples
SURE_CHARS = 400  # of one of them


class Classifier:
    """Labels texts. Made by `classifier`; used by `classify`, which begins with learn(). Several tasks may use it.

    system: the task and the labels. examples stand as turns of a chat, so that they are computed once for all texts.
    passes: with 2, the items that were learned from are scored again, after the surest of them.
    live: nothing is learned from items, so that none waits for others.
    """

    def __init__(
        self, scorer: Scorer, system: Message, examples: Sequence[Example], *, passes: int, live: bool
    ) -> None:
        self._scorer = scorer
        self._system = system
        self._examples = tuple(examples)
        self._passes = passes
        self._live = live
        self._known: dict[str, Scores] = {}  # of examples, each scored without itself among those before it
        self._learned: Learned | None = None
        self._learning = asyncio.Lock()

    @property
    def head_tokens(self) -> int:
        return self._scorer.head_tokens

    @property
    def has_learned(self) -> bool:
        return self._learned is not None

    @property
    def waits_for(self) -> int:
        """How many items learn() can make use of."""
        return 0 if self._live or self._learned is not None else PRIOR_ITEMS

    def calls_for(self, items: int) -> int:
        """Return how many sub-calls so many items take, what is learned before them included."""
        if self._learned is not None:
            return items
        twice = min(items, PRIOR_ITEMS) if self._passes > 1 else 0
        return items + twice + (len(self._examples) or len(SILENT))

    async def score(self, item: str) -> Scored:
        return await self._scorer(item)

    async def learn(self, items: Sequence[str]) -> list[Scored]:
        """Score the first items of a call, having found out, once, what the model prefers."""
        async with self._learning:
            if self._learned is None:
                scored = await _scored(self._scorer, items)
                await self._learn_from(scored)
                return await self._second_pass(scored) if self._passes > 1 else scored
        return await _scored(self._scorer, items)

    def judged(self, scored: Scored) -> SubCall:
        """Return an item's label and the probability that it is right."""
        if scored.failed:
            return scored.tally.failed(scored.item, scored.failed)
        label, chance = self._likeliest(scored)
        value: JsonValue = {"label": self._names[label], "confidence": round(chance, 4)}
        return scored.tally.done(scored.item, value)

    @property
    def _names(self) -> tuple[str, ...]:
        return self._scorer.labels.names

    def _likeliest(self, scored: Scored) -> tuple[int, float]:
        """Return which label an item most likely has, and the probability that it is right."""
        assert self._learned is not None  # learn() was called
        chances = self._learned.chances(scored.item, scored.scores)
        best = max(range(len(chances)), key=chances.__getitem__)
        return best, chances[best]

    async def _learn_from(self, scored: Sequence[Scored]) -> None:
        """Learn what the model prefers, and with examples what the items' scores and words say."""
        seen = [] if self._live else [one for one in scored if not one.failed]
        if not self._examples:
            self._learned = Learned(await _prior(self._scorer, [one.scores for one in seen]))
            return
        self._known = self._known or await self._known_examples()
        labels = {text: self._names.index(label) for text, label in self._examples}
        truth = [labels[text] for text in self._known]
        start = Prior.of_examples(list(self._known.values()), truth, labels=len(self._names))
        self._learned = Learned(start)
        if items := {one.item: one.scores for one in seen}:  # a second's work or more, so that others go on beside it
            self._learned = await asyncio.to_thread(Learned.of, start, items, labels, self._known)

    async def _known_examples(self) -> dict[str, Scores]:
        known: dict[str, Scores] = {}
        halves = _halves(self._examples)
        for half, other in (halves, halves[::-1]):
            found = await _known(await self._after(other), [text for text, _ in half])
            known |= {one.item: one.scores for one in found}
        return known

    async def _second_pass(self, scored: Sequence[Scored]) -> list[Scored]:
        """Score the items again, with the surest of them before the examples."""
        surest = self._surest(scored)
        if len({label for _, label in surest}) < 2:
            return list(scored)  # of one label alone, examples would only mislead
        self._scorer = await self._after((*surest, *self._examples))
        again = await _scored(self._scorer, [one.item for one in scored])
        for one, before in zip(again, scored, strict=True):
            one.tally.usage += before.tally.usage
        await self._learn_from(again)
        return again

    def _surest(self, scored: Sequence[Scored]) -> list[Example]:
        """Return the items of each label of which the first pass is surest, the labels taking turns."""
        by_label: list[list[tuple[float, str]]] = [[] for _ in self._names]
        for item, one in {one.item: one for one in scored if not one.failed}.items():
            if item.strip() and len(item) <= SURE_CHARS:
                label, chance = self._likeliest(one)
                by_label[label].append((chance, item))
        tops = [sorted(found, key=lambda one: -one[0])[:SURE_ITEMS] for found in by_label]
        return [
            (top[at][1], self._names[label])
            for at in range(SURE_ITEMS)
            for label, top in enumerate(tops)
            if at < len(top)
        ]

    async def _after(self, examples: Sequence[Example]) -> Scorer:
        first = self._scorer
        return await Scorer.under(first.caller, _head(self._system, examples), first.labels, split=first.split)


class Filter:
    """Says of texts whether they meet a condition. Made by `condition_filter`; used by `classify`.

    Its prior is of silent texts alone: how many items meet a condition is what is asked, and may be none of them.
    """

    waits_for = 0

    def __init__(self, scorer: Scorer, sure: float) -> None:
        self._scorer = scorer
        self._sure = sure  # the chance from which on an item meets the condition
        self._prior: Prior | None = None

    @property
    def has_learned(self) -> bool:
        return self._prior is not None

    @property
    def head_tokens(self) -> int:
        return self._scorer.head_tokens

    def calls_for(self, items: int) -> int:
        return items + (len(SILENT) if self._prior is None else 0)

    async def score(self, item: str) -> Scored:
        return await self._scorer(item)

    async def learn(self, items: Sequence[str]) -> list[Scored]:
        if self._prior is None:
            self._prior = await _prior(self._scorer, [])
        return await _scored(self._scorer, items)

    def judged(self, scored: Scored) -> SubCall:
        if scored.failed:
            return scored.tally.failed(scored.item, scored.failed)
        assert self._prior is not None  # learn() was called
        yes, _ = self._prior.posterior(scored.scores)
        return scored.tally.done(scored.item, yes > self._sure)


Judge: TypeAlias = Classifier | Filter


async def classifier(
    caller: Caller,
    labels: Labels,
    *,
    instruction: str,
    examples: Sequence[Example],
    split: bool,
    passes: int,
    live: bool,
) -> Classifier:
    """Return what gives each text a label. Raises BadCall when that leaves no room for a text."""
    lines = [
        f"- {name}: {description}" if description else f"- {name}"
        for name, description in zip(labels.names, labels.descriptions, strict=True)
    ]
    listing = "\n".join(["Labels:", *lines]) if any(labels.descriptions) else f"Labels: {', '.join(labels.names)}"
    task = f"{_CLASSIFY}\n{instruction}" if instruction else _CLASSIFY
    system = Message(Role.SYSTEM, f"{task}\n{listing}")
    scorer = await Scorer.under(caller, _head(system, examples), labels, split=split)
    return Classifier(scorer, system, examples, passes=passes, live=live)


async def condition_filter(caller: Caller, condition: str, *, sure: float, split: bool) -> Filter:
    """Return what says of each text whether it meets the condition, by a chance above `sure`. Raises BadCall."""
    head = (Message(Role.SYSTEM, _FILTER + condition),)
    return Filter(await Scorer.under(caller, head, _YES_NO, split=split), sure)


async def classify(judge: Judge, items: Items[str]) -> AsyncGenerator[SubCall, None]:
    """Yield the judgement of each item, in order; the first of them wait until the judge has what it learns from."""
    source = each(items)
    first: list[str] = []
    wanted = max(1, judge.waits_for)
    while len(first) < wanted and (item := await anext(source, None)) is not None:
        first.append(item)
    if not first:
        return
    for one in await judge.learn(first):
        yield judge.judged(one)
    async with aclosing(in_order(source, judge.score)) as rest:
        async for one in rest:
            yield judge.judged(one)


async def _prior(scorer: Scorer, said: Sequence[Scores]) -> Prior:
    """Return what the model prefers, by texts that say nothing and by what was said of items."""
    silent = await _known(scorer, SILENT)
    even = normalised([0.0] * len(scorer.labels.names))
    return Prior.fit(said, [one.scores for one in silent] or [even])


async def _scored(scorer: Scorer, items: Items[str]) -> list[Scored]:
    return [one async for one in in_order(items, scorer)]


async def _known(scorer: Scorer, items: Items[str]) -> list[Scored]:
    return [one for one in await _scored(scorer, items) if not one.failed]


def _head(system: Message, examples: Sequence[Example]) -> tuple[Message, ...]:
    turns = [
        Message(role, text) for item, label in examples for role, text in ((Role.USER, item), (Role.ASSISTANT, label))
    ]
    return (system, *turns)


def _halves(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Deal examples into two halves, those of one label in turn, in the order given."""
    halves: tuple[list[Example], list[Example]] = ([], [])
    dealt: dict[str, int] = {}
    for example in examples:
        at = dealt.get(example[1], 0)
        dealt[example[1]] = at + 1
        halves[at % 2].append(example)
    return halves
