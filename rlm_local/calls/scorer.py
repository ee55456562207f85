"""How likely each label is after a text, by a model: all labels scored exactly, under a prefix that texts share."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_local.calls.caller import MESSAGE_TOKENS, Caller, RefusedError, Tally, UnreadableError, complete, head_tokens
from rlm_local.calls.checks import Labels
from rlm_local.calls.prior import Scores, normalised
from rlm_local.calls.room import fitting, room_of
from rlm_local.types import Completion, Message, Role

UNLIKELY = -20.0  # the log-probability of a label that an engine did not choose and did not score


@dataclass(frozen=True, slots=True)
class Scored:
    """An item and how likely each label is after it, or why that is not known."""

    item: str
    tally: Tally
    scores: Scores = ()
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores the labels after a text, under one prefix."""

    caller: Caller
    head: tuple[Message, ...]
    labels: Labels
    room: int  # tokens of one item
    head_tokens: int
    split: bool

    @classmethod
    async def under(cls, caller: Caller, head: tuple[Message, ...], labels: Labels, *, split: bool) -> Scorer:
        """Measure a prefix. Raises BadCall when it leaves no room for a text."""
        taken = await head_tokens(caller.engine, head)
        room = room_of(caller, taken + _reply_tokens(labels) + MESSAGE_TOKENS)
        return cls(caller, head, labels, room, taken, split)

    async def __call__(self, item: str) -> Scored:
        """Return the log-probability of each label: of an item in pieces, the mean over them."""
        tally = Tally()
        try:
            parts = await fitting(self.caller.engine, item, self.room, split=self.split)
            rows = [await self._once(part, tally) for part in parts]
        except (RefusedError, UnreadableError) as error:
            return Scored(item, tally, failed=str(error))
        return Scored(item, tally, normalised([sum(row) / len(rows) for row in zip(*rows, strict=True)]))

    async def _once(self, text: str, tally: Tally) -> Scores:
        names = self.labels.names
        prompt = (*self.head, Message(Role.USER, text))
        completion = Completion(prompt, max_tokens=_reply_tokens(self.labels), choices=names)
        tokens = min(len(text.encode("utf-8", "replace")), self.room)  # it was measured: it fits
        reply = await complete(self.caller, completion, tally, prompt_tokens=self.head_tokens + tokens)
        if reply.logprobs:
            return reply.logprobs
        # An engine that scores no choices has said which it is, and no more.
        if reply.text not in names:
            raise UnreadableError(f"the reply {reply.text[:60]!r} is none of the labels")
        return tuple(0.0 if name == reply.text else UNLIKELY for name in names)


def _reply_tokens(labels: Labels) -> int:
    return max(len(name.encode()) for name in labels.names) + 1
