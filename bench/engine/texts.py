"""Texts of a known number of tokens; the same seed gives the same text."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from random import Random
from typing import TypeAlias

from rlm_local.engine.llama.binding import Model

Tokens: TypeAlias = tuple[int, ...]

WORDS = (
    "river stone paper green seven open market winter letter bridge quiet garden road table water light house "
    "number city window mountain school music summer doctor island story morning family picture silver ocean "
    "forest village engine teacher science station language history village office candle mirror yellow"
)


class Tokenizer:
    """The vocabulary of a model, without its weights in memory."""

    def __init__(self, weights: Path) -> None:
        self._model = Model(weights, vocab_only=True)

    def __call__(self, text: str) -> Tokens:
        return tuple(self._model.tokenize(text, special=False))

    @property
    def ends(self) -> frozenset[int]:
        return self._model.ends

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Words, each with its leading space, that are one token whatever stands beside them."""
        return tuple(word for word in dict.fromkeys(f" {word}" for word in WORDS.split()) if len(self(word)) == 1)


class Texts:
    """Texts of words that are one token each: their length is exact and they can be put end to end."""

    def __init__(self, tokenizer: Tokenizer, seed: object) -> None:
        self._words = tokenizer.words
        self._seed = str(seed)
        self._random = Random(self._seed)

    def some(self, tokens: int) -> str:
        return "".join(self._random.choices(self._words, k=tokens))

    def block(self, number: int, tokens: int) -> str:
        """Return the text of a numbered block: the same for the same number, whenever it is asked for."""
        return "".join(Random(f"{self._seed}/{number}").choices(self._words, k=tokens))
