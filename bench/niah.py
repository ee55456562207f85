"""S-NIAH: one needle, a sentence with a key and a number, in a haystack of speeches.

The definition is RULER's (NVIDIA/RULER, niah_single with words for keys and numbers for values, essays as
haystack), with another haystack because its essays may not be shipped. One regular expression solves the task:
it shows that the mechanics hold at any length, and says little about reading.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from bench.haystack import CountTokens, Excerpt, Haystack, Words, cut
from rlm_local.errors import ConfigError

DEPTHS_PERCENT = tuple(round(step * 100 / 39) for step in range(40))
ANSWER_TOKENS = 128  # RULER's room for the answer, part of a task's length
DOCUMENT_NAME = "haystack.txt"

DIRECT_PROMPT = (
    "A special magic number is hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the number afterwards.\n{text}\n{question}"
    " The special magic number for {key} mentioned in the provided text is"
)


@dataclass(frozen=True, slots=True)
class Needle:
    key: str
    value: str  # seven digits
    depth_percent: int  # how far down the haystack, one of DEPTHS_PERCENT

    @property
    def sentence(self) -> str:
        return f"One of the special magic numbers for {self.key} is: {self.value}."

    @property
    def question(self) -> str:
        return f"What is the special magic number for {self.key} mentioned in the provided text?"


@dataclass(frozen=True, slots=True)
class NiahTask:
    index: int  # 0-based within its run
    needle: Needle
    text: str
    tokens: int  # text, RULER's prompt around it and room for the answer, in the model's tokens

    @property
    def question(self) -> str:
        return self.needle.question

    @property
    def gold(self) -> str:
        return self.needle.value

    @property
    def direct_prompt(self) -> str:
        """The whole text and the question in one prompt, as RULER asks a model without a runtime."""
        return DIRECT_PROMPT.format(text=self.text, question=self.question, key=self.needle.key)


@dataclass(frozen=True, slots=True)
class NiahPlan:
    """What makes the tasks of a run: the same plan makes the same bytes, on every machine."""

    haystack: Haystack
    words: Words
    excerpt: Excerpt
    frame_tokens: int  # the prompt around the text, the needle and the room for the answer
    seed: int

    def tasks(self, number: int) -> Iterator[NiahTask]:
        """Yield the tasks one at a time: at ten million tokens one text is enough to hold."""
        hay = " ".join(self.haystack.sentences)
        sentences = self.excerpt.sentences(self.haystack)
        for index in range(number):
            needle = draw_needle(self.words, self.seed, index, absent_from=hay)
            text = insert(sentences, needle)
            yield NiahTask(index, needle, text, self.excerpt.tokens + self.frame_tokens)


async def plan(haystack: Haystack, words: Words, tokens: int, seed: int, count: CountTokens) -> NiahPlan:
    """Return the plan for tasks of at most `tokens` tokens, counted by the model's tokenizer.

    Raises ConfigError when the prompt and the room for the answer leave no room for a text.
    """
    # Keys differ by a few tokens; the first needle stands for all.
    needle = draw_needle(words, seed, 0)
    frame = NiahTask(0, needle, "", 0).direct_prompt
    frame_tokens = await count(frame) + await count(" " + needle.sentence) + ANSWER_TOKENS
    if tokens <= frame_tokens:
        raise ConfigError(f"--tokens is {tokens}, but prompt, needle and answer alone take {frame_tokens}")
    excerpt = await cut(haystack.sentences, tokens - frame_tokens, count)
    return NiahPlan(haystack, words, excerpt, frame_tokens, seed)


def draw_needle(words: Words, seed: int, index: int, *, absent_from: str = "") -> Needle:
    """Return needle `index` of a seed; neither its key nor its value stands in `absent_from`."""
    # Seeded by text, which Python hashes by SHA-512: the same on every machine and under every hash seed.
    chance = random.Random(f"niah {seed} {index}")
    while True:
        needle = Needle(
            key=f"{chance.choice(words.adjectives)}-{chance.choice(words.nouns)}",
            value=str(chance.randint(1_000_000, 9_999_999)),
            depth_percent=chance.choice(DEPTHS_PERCENT),
        )
        if needle.key not in absent_from and needle.value not in absent_from:
            return needle


def insert(sentences: list[str], needle: Needle) -> str:
    """Return the text with the needle as a sentence of its own at its depth, counted in sentences."""
    position = len(sentences) * needle.depth_percent // 100
    return " ".join([*sentences[:position], needle.sentence, *sentences[position:]])


def score(answer: str, gold: str) -> float:
    """Return 1.0 when the gold stands anywhere in the answer, else 0.0; upper and lower case are alike.

    RULER's string_match_all for one gold string, its leniency kept: "12345678" matches gold "1234567", and so
    does an answer that lists every number it saw. "1,234,567" does not match.
    """
    return 1.0 if gold.lower() in answer.lower() else 0.0
