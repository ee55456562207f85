"""RULER's needles: sentences with a key and a number, in a haystack of speeches.

The definition is RULER's (NVIDIA/RULER, niah with words for keys and numbers for values, essays as haystack), with
another haystack because its essays may not be shipped: one needle (S-NIAH); four keys of which one is asked for;
four values of one key; four keys that are all asked for. One regular expression solves each of them: they show that
the mechanics hold at any length, and say little about reading.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from bench.haystack import CountTokens, Excerpt, Haystack, Words, cut, read_speeches, read_words
from bench.tasks.scoring import string_match_all
from bench.tasks.task import Family, Maker, Sources, Task
from rlm_local.errors import ConfigError
from rlm_local.types import Document

DEPTHS_PERCENT = tuple(round(step * 100 / 39) for step in range(40))
ANSWER_TOKENS = 128  # RULER's room for the answer, part of a task's length
DOCUMENT_NAME = "haystack.txt"

DIRECT_PROMPT = (
    "{a_number} hidden within the following text. Make sure to memorize {it}. "
    "I will quiz you about the {number} afterwards.\n$text\n{question}"
    " The special magic {number} for {keys} mentioned in the provided text {are}"
)


@dataclass(frozen=True, slots=True)
class Variant:
    """How many needles there are, and which of them are asked for."""

    name: str
    keys: int
    values: int  # of each key
    asked: int  # keys, the first ones

    @property
    def is_many(self) -> bool:
        return self.asked * self.values > 1


NIAH = Variant("niah", keys=1, values=1, asked=1)
VARIANTS = (
    NIAH,
    Variant("multikey", keys=4, values=1, asked=1),
    Variant("multivalue", keys=1, values=4, asked=1),
    Variant("multiquery", keys=4, values=1, asked=4),
)


@dataclass(frozen=True, slots=True)
class Needle:
    key: str
    value: str  # seven digits
    depth_percent: int  # how far down the haystack, one of DEPTHS_PERCENT

    @property
    def sentence(self) -> str:
        return f"One of the special magic numbers for {self.key} is: {self.value}."


@dataclass(frozen=True, slots=True)
class NeedlePlan:
    """What makes the tasks of a run: the same plan makes the same bytes, on every machine."""

    variant: Variant
    haystack: Haystack
    words: Words
    excerpt: Excerpt
    frame_tokens: int  # the prompt around the text, the needles and the room for the answer
    seed: int

    def tasks(self, number: int) -> Iterator[Task]:
        """Yield the tasks one at a time: at ten million tokens one text is enough to hold."""
        hay = " ".join(self.haystack.sentences)
        return (self.task(index, hay) for index in range(number))

    def task(self, index: int, hay: str) -> Task:
        needles = draw_needles(self.variant, self.words, self.seed, index, absent_from=hay)
        text = insert(self.excerpt.sentences(self.haystack), needles)
        return _task(self.variant, index, needles, text, self.excerpt.tokens + self.frame_tokens)


async def plan(
    haystack: Haystack, words: Words, tokens: int, seed: int, count: CountTokens, variant: Variant = NIAH
) -> NeedlePlan:
    """Return the plan for tasks of at most `tokens` tokens, counted by the model's tokenizer.

    Raises ConfigError when the prompt and the room for the answer leave no room for a text.
    """
    # Keys differ by a few tokens; the first needles stand for all.
    needles = draw_needles(variant, words, seed, 0)
    frame = _task(variant, 0, needles, "", 0).prompt.replace("$text", "")
    sentences = "".join(f" {needle.sentence}" for needle in needles)
    frame_tokens = await count(frame) + await count(sentences) + ANSWER_TOKENS
    if tokens <= frame_tokens:
        raise ConfigError(f"--tokens is {tokens}, but prompt, needles and answer alone take {frame_tokens}")
    excerpt = await cut(haystack.sentences, tokens - frame_tokens, count)
    return NeedlePlan(variant, haystack, words, excerpt, frame_tokens, seed)


def draw_needles(variant: Variant, words: Words, seed: int, index: int, *, absent_from: str = "") -> list[Needle]:
    """Return the needles of task `index` of a seed; no key and no value of them stands in `absent_from`, or twice."""
    # Seeded by text, which Python hashes by SHA-512: the same on every machine and under every hash seed.
    chance = random.Random(f"{variant.name} {seed} {index}")
    needles: list[Needle] = []
    while len(needles) < variant.keys * variant.values:
        key = f"{chance.choice(words.adjectives)}-{chance.choice(words.nouns)}"
        if len(needles) % variant.values:
            key = needles[-1].key
        needle = Needle(key, str(chance.randint(1_000_000, 9_999_999)), chance.choice(DEPTHS_PERCENT))
        is_new_key = len(needles) % variant.values or all(needle.key != one.key for one in needles)
        is_new = is_new_key and all(needle.value != one.value for one in needles)
        if is_new and needle.key not in absent_from and needle.value not in absent_from:
            needles.append(needle)
    return needles


def insert(sentences: list[str], needles: list[Needle]) -> str:
    """Return the text with each needle as a sentence of its own at its depth, counted in sentences."""
    made: list[str] = []
    done = 0
    for needle in sorted(needles, key=lambda one: one.depth_percent):
        position = len(sentences) * needle.depth_percent // 100
        made += [*sentences[done:position], needle.sentence]
        done = position
    return " ".join([*made, *sentences[done:]])


def _task(variant: Variant, index: int, needles: list[Needle], text: str, tokens: int) -> Task:
    asked = needles[: variant.asked * variant.values]
    keys = list(dict.fromkeys(needle.key for needle in asked))
    named = keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])}, and {keys[-1]}"
    if variant.is_many:
        question = f"What are all the special magic numbers for {named} mentioned in the provided text?"
        frame = {"a_number": "Some special magic numbers are", "it": "them", "number": "numbers", "are": "are"}
    else:
        question = f"What is the special magic number for {named} mentioned in the provided text?"
        frame = {"a_number": "A special magic number is", "it": "it", "number": "number", "are": "is"}
    return Task(
        family=variant.name,
        index=index,
        kind=variant.name,
        documents=(Document(DOCUMENT_NAME, text),),
        question=question,
        gold=asked[0].value if not variant.is_many else [needle.value for needle in asked],
        scorer=string_match_all,
        prompt=DIRECT_PROMPT.format(question=question, keys=named, **frame),
        facts={"depth_percent": needles[0].depth_percent, "key": keys[0], "tokens": tokens},
    )


def _family(variant: Variant, about: str) -> Family:
    async def make(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
        haystack, words = read_speeches(sources.folder), read_words(sources.folder)
        sources.sha256 |= {haystack.name: haystack.sha256, "ruler word lists": words.sha256}
        planned = await plan(haystack, words, tokens, seed, count, variant)
        hay = " ".join(haystack.sentences)
        return lambda index: planned.task(index, hay)

    return Family(variant.name, about, make)


FAMILIES = tuple(
    _family(variant, about)
    for variant, about in zip(
        VARIANTS,
        (
            "one needle in speeches (RULER's S-NIAH)",
            "four needles, one of them asked for (RULER's multi-key)",
            "four numbers of one key (RULER's multi-value)",
            "four needles, all asked for (RULER's multi-query)",
        ),
        strict=True,
    )
)
