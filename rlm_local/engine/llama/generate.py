"""One request at a time: share what is known of the prompt, compute the rest, write the reply."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rlm_local.engine.llama.interrupt import Aborted, Cancel, NoRoom
from rlm_local.engine.llama.mask import Mask
from rlm_local.engine.llama.prefix import Memory, PrefixCache, Resident
from rlm_local.engine.llama.sampler import Logits, Sampler, Settings
from rlm_local.types import ReplyStop, Usage


class Computation(Memory, Protocol):
    """binding.Context, as this file needs it."""

    batch: int

    def obey(self, cancel: Cancel) -> None: ...
    def decode(self, tokens: Sequence[int], *, sequence: int, start: int) -> Logits: ...


class Vocabulary(Protocol):
    """binding.Model, as this file needs it."""

    ends: frozenset[int]

    def piece(self, token: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Job:
    """A request whose prompt fits the window together with max_tokens."""

    prompt: list[int]
    max_tokens: int
    settings: Settings
    mask: Mask | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    text: str
    stop: ReplyStop
    usage: Usage


class Generator:
    """Runs jobs on one context. One thread at a time; a Cancel may be set from any."""

    def __init__(self, computation: Computation, vocabulary: Vocabulary, cache: PrefixCache) -> None:
        self._computation = computation
        self._vocabulary = vocabulary
        self._cache = cache

    def run(self, job: Job, cancel: Cancel) -> Generated:
        """Write the reply. Raises Aborted when `cancel` was set; what was computed by then stays cached."""
        self._computation.obey(cancel)
        resident = self._cache.claim(job.prompt)
        cached = len(resident.tokens)
        try:
            logits = self._prefill(resident, job.prompt[cached:], cancel)
            reply, stop = self._write(job, resident, logits, cancel)
        finally:
            self._cache.settle(resident)
        written = [token for token in reply if token not in self._vocabulary.ends]
        return Generated(
            text=self._text(written),
            stop=stop,
            usage=Usage(prompt_tokens=len(job.prompt), cached_tokens=cached, completion_tokens=len(reply)),
        )

    def _prefill(self, resident: Resident, tokens: Sequence[int], cancel: Cancel) -> Logits:
        # The last token goes alone, always: kernels for one token and for many round differently, and a
        # repeated prompt (all cached but its last token) must give the reply that it gave before.
        if tokens[:-1]:
            self._append(resident, tokens[:-1], cancel)
        return self._append(resident, tokens[-1:], cancel)

    def _write(self, job: Job, resident: Resident, logits: Logits, cancel: Cancel) -> tuple[list[int], ReplyStop]:
        """Return the reply's tokens, an end token included if one was drawn."""
        sampler = Sampler(job.settings, prompt=job.prompt)
        reply: list[int] = []
        while True:
            token = sampler.next(logits, job.mask)
            reply.append(token)
            if token in self._vocabulary.ends:
                return reply, ReplyStop.COMPLETE
            if job.mask is not None:
                job.mask.advance(token)
                if job.mask.finished:
                    return reply, ReplyStop.COMPLETE
            if len(reply) == job.max_tokens:
                return reply, ReplyStop.LENGTH
            logits = self._append(resident, [token], cancel)

    def _append(self, resident: Resident, tokens: Sequence[int], cancel: Cancel) -> Logits:
        """Compute `tokens` at the end of the resident, in batches; return the last one's logits."""
        logits: Logits | None = None
        for i in range(0, len(tokens), self._computation.batch):
            if cancel.is_set:
                raise Aborted("cancelled between two steps")
            chunk = tokens[i : i + self._computation.batch]
            logits = self._decode(resident, chunk)
            resident.append(chunk)
        if logits is None:
            raise ValueError("there is no token to compute; a prompt has at least one")
        return logits

    def _decode(self, resident: Resident, tokens: Sequence[int]) -> Logits:
        while True:
            try:
                return self._computation.decode(tokens, sequence=resident.sequence, start=len(resident.tokens))
            except NoRoom:
                if not self._cache.make_room(keep=resident):
                    raise

    def _text(self, tokens: Sequence[int]) -> str:
        # A reply cut by max_tokens may end inside a character; those one to three bytes are left out.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(b"".join(self._vocabulary.piece(token) for token in tokens))
