"""One request to the scheduler, from waiting to its last token."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rlm_local.engine.llama.choices import ChoiceTree, pick
from rlm_local.engine.llama.closing import Closer
from rlm_local.engine.llama.compute import Vocabulary
from rlm_local.engine.llama.interrupt import Cancel
from rlm_local.engine.llama.mask import Mask
from rlm_local.engine.llama.prefix_node import Node, Wanted
from rlm_local.engine.llama.reply import (
    NOTHING_CLOSED,
    ChoiceProbability,
    Closed,
    Generated,
    TokenLogprob,
    Wording,
    token_logprob,
)
from rlm_local.engine.llama.sampler import Logits, Sampler, Settings
from rlm_local.engine.llama.stopwatch import TimedMask
from rlm_local.types import ReplyStop, Usage

# Takes a piece of text, and the log-probabilities of the tokens whose text ends in it.
Hear: TypeAlias = Callable[[str, Sequence[TokenLogprob]], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A request whose prompt fits the window together with max_tokens."""

    prompt: list[int]
    max_tokens: int
    settings: Settings
    mask: Mask | None = None
    choices: ChoiceTree | None = None  # instead of a mask: scored, not written
    closer: Closer | None = None  # beside a mask: max_tokens ends the sentence, and does not cut it
    stops: tuple[str, ...] = ()
    scope: str = ""  # requests of different scopes share nothing but
    public: int = 0  # so many first tokens of the prompt, which hold nobody's words
    priority: int = 0  # smaller goes first
    depth: int = 0  # levels below the root of its run; among equals the deepest goes first
    deadline_s: float | None = None  # from when the scheduler is given the job
    top_logprobs: int | None = None  # None: no log-probabilities
    ignore_ends: bool = False  # an end token is a token like any other

    @property
    def reach(self) -> int:
        """Cells that this can come to hold, shared ones included; the last token drawn takes none."""
        beyond = self.choices.cells if self.choices else self.max_tokens - 1
        return len(self.prompt) + beyond


class Request:
    """A job and how far it has come. The scheduler's thread alone moves it; `cancel` may be set from any.

    on_text: called on that thread with each piece of text as it becomes certain. Tokens that come after the
    last piece, as an end token does, are only in the result.
    """

    def __init__(
        self, job: Job, vocabulary: Vocabulary, *, cancel: Cancel, on_text: Hear | None = None, name: str = ""
    ) -> None:
        self.job = job
        self.name = name  # that its caller gave it; empty for none
        self.cancel = cancel
        self.result: Future[Generated] = Future()
        self.result.set_running_or_notify_cancel()  # so that nobody's waiting for it can cancel it
        self.prompt = np.asarray(job.prompt, dtype=np.int32)
        self.wanted = Wanted.of(job.scope, self.prompt, job.public)
        self._tip: Node | None = None
        self.cached = 0
        self.arrived = 0.0  # the scheduler's clock, seconds
        self.arrival = 0  # the scheduler's count of requests
        self.has_begun = False  # a computation took it in
        self.timed_mask = TimedMask(job.mask) if job.mask is not None else None
        self.reply: list[int] = []  # drawn tokens, an end token included
        self._vocabulary = vocabulary
        self._on_text = on_text
        self._sampler = Sampler(job.settings, prompt=job.prompt)
        self._wording = Wording(job.stops)
        self._logprobs: list[TokenLogprob] = []
        self._text_ends: list[int] = []  # characters of the reply up to the end of each token's text
        self._heard = 0  # tokens whose log-probabilities on_text was given

    @property
    def tip(self) -> Node:
        """Where it computes. Only an admitted request has one."""
        assert self._tip is not None
        return self._tip

    @property
    def is_admitted(self) -> bool:
        return self._tip is not None

    def admit(self, tip: Node) -> None:
        self._tip, self.cached = tip, tip.end

    @property
    def position(self) -> int:
        """Tokens of prompt and reply that the memory holds."""
        return self.tip.end

    @property
    def is_read(self) -> bool:
        """All of the prompt but its last token is computed.

        The last one goes with the replies' tokens, always: kernels for one token and for many round
        differently, and a repeated prompt (all cached but its last token) must give the reply that it gave.
        """
        return self.position >= len(self.job.prompt) - 1

    def unread(self, most: int) -> list[int]:
        """Return the next prompt tokens to compute, without the last one."""
        begin = self.position
        return self.job.prompt[begin : min(begin + most, len(self.job.prompt) - 1)]

    @property
    def next_token(self) -> int:
        """The token whose logits the reply goes on from: the prompt's last, or the last one drawn."""
        return self.reply[-1] if self.reply else self.job.prompt[-1]

    @property
    def spent(self) -> Usage:
        """What was computed for it so far, or found computed."""
        read = min(self.position, len(self.job.prompt)) if self.is_admitted else 0
        return Usage(read, min(self.cached, read), len(self.reply))

    @property
    def outstanding(self) -> int:
        """Cells that this may still come to need."""
        return self.job.reach - self.position

    def take(self, logits: Logits) -> bool:
        """Draw the next token; True when the reply is finished and delivered."""
        job = self.job
        token = self._sampler.next(logits, self.timed_mask)
        if job.closer is not None and token not in self._vocabulary.ends:
            left = job.max_tokens - len(self.reply)
            if not job.closer.admit(self._vocabulary.piece(token), left=left - 1):
                return self._close(job.closer.ending())
        if job.top_logprobs is not None:
            self._logprobs.append(token_logprob(logits, token, self._vocabulary, top=job.top_logprobs))
        self.reply.append(token)
        if token in self._vocabulary.ends and not job.ignore_ends:
            return self._finish(ReplyStop.COMPLETE)
        self._word(token)
        if job.mask is not None:
            job.mask.advance(token)
        if self._wording.stopped or (job.mask is not None and job.mask.finished):
            return self._finish(ReplyStop.COMPLETE)
        if len(self.reply) == job.max_tokens:
            if job.closer is not None and not job.closer.is_hopeless:
                return self._finish(ReplyStop.CLOSED)
            return self._finish(ReplyStop.LENGTH)
        return False

    def _close(self, ending: Sequence[int]) -> bool:
        """Write the ending of the sentence, without computing, and deliver the reply."""
        said = len(self._wording.text)
        for token in ending:
            self.reply.append(token)
            self._word(token)
            if self.job.mask is not None:
                self.job.mask.advance(token)
        self._say(self._wording.end())
        return self._finish(ReplyStop.CLOSED, closed=Closed(self._wording.text[said:], len(ending)))

    def choose(self, probabilities: tuple[ChoiceProbability, ...]) -> None:
        """Take the winner as the reply and deliver it."""
        job = self.job
        assert job.choices is not None  # or there was nothing to choose from
        winner = pick(probabilities, temperature=job.settings.temperature, seed=job.settings.seed)
        tokens = job.choices.tokens[winner]
        self.reply = list(tokens[: job.max_tokens])
        for token in self.reply:
            self._word(token)
        whole = len(self.reply) == len(tokens)
        self._finish(ReplyStop.COMPLETE if whole else ReplyStop.LENGTH, probabilities)

    def fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)

    def _finish(
        self, stop: ReplyStop, choices: tuple[ChoiceProbability, ...] | None = None, closed: Closed = NOTHING_CLOSED
    ) -> bool:
        self._say(self._wording.end())
        usage = Usage(len(self.job.prompt), self.cached, len(self.reply))
        logprobs = tuple(self._logprobs) if self.job.top_logprobs is not None else None
        self.result.set_result(Generated(self._wording.text, stop, usage, logprobs, choices, closed))
        return True

    def _word(self, token: int) -> None:
        text = self._wording.add(self._vocabulary.piece(token))
        before = self._text_ends[-1] if self._text_ends else 0
        self._text_ends.append(max(before, self._wording.known))  # a stop string takes text away
        self._say(text)

    def _say(self, text: str) -> None:
        if text and self._on_text is not None:
            heard = bisect_right(self._text_ends, self._wording.told)
            self._on_text(text, self._logprobs[self._heard : heard])
            self._heard = heard
