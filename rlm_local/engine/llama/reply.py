"""A reply while it is written: tokens to text, stop strings, log-probabilities."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlm_local.engine.llama.compute import Vocabulary
from rlm_local.engine.llama.sampler import Logits
from rlm_local.types import ReplyStop, Usage


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One drawn token and the likeliest ones in its place, before mask and temperature."""

    piece: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True, slots=True)
class ChoiceProbability:
    text: str
    probability: float  # among the choices; all together 1
    logprob: float  # of the whole choice, given the prompt


@dataclass(frozen=True, slots=True)
class Closed:
    """What the engine wrote to end a sentence of the grammar before max_tokens would have cut it."""

    text: str
    tokens: int  # part of the reply's completion tokens


NOTHING_CLOSED = Closed("", 0)


@dataclass(frozen=True, slots=True)
class Generated:
    text: str
    stop: ReplyStop
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] | None = None
    choices: tuple[ChoiceProbability, ...] | None = None  # in the order of the request
    closed: Closed = NOTHING_CLOSED  # the end of text; goes with ReplyStop.CLOSED


class Wording:
    """The text of a reply, which is handed out as soon as no stop string can begin in it."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.text = ""  # all that was handed out
        self.stopped = False  # a stop string came; the text ends before it
        self._stops = stops
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, piece: bytes) -> str:
        """Return the text that is certain now and was not handed out yet."""
        self._held += self._decoder.decode(piece)
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = self._held[: min(found)]
            return self.end()
        return self._hand_out(len(self._held) - self._doubtful())

    @property
    def told(self) -> int:
        """Characters that were handed out."""
        return len(self.text)

    @property
    def known(self) -> int:
        """Characters that must be handed out before the last piece's own text is, whole: a character may be open."""
        open_bytes, _ = self._decoder.getstate()
        return len(self.text) + len(self._held) + bool(open_bytes)

    def end(self) -> str:
        """Return what was held back.

        A reply cut by max_tokens may end inside a character; those one to three bytes are left out.
        """
        return self._hand_out(len(self._held))

    def _hand_out(self, size: int) -> str:
        text, self._held = self._held[:size], self._held[size:]
        self.text += text
        return text

    def _doubtful(self) -> int:
        """Return how many characters at the end may be the beginning of a stop string."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest


def log_softmax(logits: Logits) -> Logits:
    shifted: Logits = logits - logits.max()
    total = float(np.log(np.exp(shifted).sum(dtype=np.float64)))
    return shifted - np.float32(total)


def token_logprob(logits: Logits, token: int, vocabulary: Vocabulary, *, top: int) -> TokenLogprob:
    """Return how likely `token` was, with the `top` likeliest tokens."""
    logprobs = log_softmax(logits)
    heads = np.argpartition(-logprobs, top - 1)[:top] if top else np.empty(0, dtype=np.intp)
    heads = heads[np.argsort(-logprobs[heads], kind="stable")]
    return TokenLogprob(
        vocabulary.piece(token),
        float(logprobs[token]),
        tuple((vocabulary.piece(int(t)), float(logprobs[t])) for t in heads),
    )
