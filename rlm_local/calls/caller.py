"""How a typed call reaches a model: one completion at a time, within whatever budget there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rlm_local.errors import EngineRefused, EngineUnavailable
from rlm_local.ports import Engine
from rlm_local.types import Completion, JsonValue, Message, Reply, Sampling, SubCall, Usage

MESSAGE_TOKENS = 8  # what a chat template puts around one message; Qwen's puts 5
TEMPLATE_TOKENS = 64  # and around all of them; Qwen's puts 13
AGAIN = Sampling(temperature=0.7, seed=1)  # of a second try: the first one's words would come again at 0


class RefusedError(Exception):
    """A call that was not made, for a budget is spent or its prompt fits no window. One sentence with the numbers."""


class UnreadableError(Exception):
    """A reply that is no value of what was asked for, or none at all. One sentence. Another try may do better."""


class Caller(Protocol):
    """Makes completions for typed calls. Safe to use from several tasks at once."""

    @property
    def engine(self) -> Engine: ...

    @property
    def reply_tokens(self) -> int:
        """The most that one reply may have, where nobody asks for less."""
        ...

    def check_many(self, items: int, *, calls: int, prompt_tokens: int) -> None:
        """Raise BadCall when the calls that so many items take, each of at least so many tokens, are too many."""
        ...

    async def complete(self, completion: Completion, *, prompt_tokens: int) -> Reply:
        """Return the engine's reply. prompt_tokens: no less than the prompt has.

        Raises RefusedError when the budget does not allow it, EngineRefused and EngineUnavailable as ports.Engine does.
        """
        ...


class FreeCaller:
    """A Caller without a budget: for commands, whose items are the user's own."""

    def __init__(self, engine: Engine, *, reply_tokens: int) -> None:
        self.engine = engine
        self.reply_tokens = reply_tokens

    def check_many(self, items: int, *, calls: int, prompt_tokens: int) -> None:
        pass

    async def complete(self, completion: Completion, *, prompt_tokens: int) -> Reply:
        return await self.engine.complete(completion)


@dataclass(slots=True)
class Tally:
    """What the calls for one item have cost."""

    usage: Usage = Usage()

    def done(self, item: str, value: JsonValue) -> SubCall:
        return SubCall(item, "", self.usage, typed=True, value=value)

    def failed(self, item: str, why: str) -> SubCall:
        return SubCall(item, "", self.usage, refused=why, typed=True)


async def complete(caller: Caller, completion: Completion, tally: Tally, *, prompt_tokens: int) -> Reply:
    """Make a completion for an item, once more when the engine was away, and book what it cost.

    Raises RefusedError, UnreadableError for what the engine will not do, and EngineUnavailable.
    """
    try:
        reply = await caller.complete(completion, prompt_tokens=prompt_tokens)
    except EngineUnavailable:
        reply = await caller.complete(completion, prompt_tokens=prompt_tokens)
    except EngineRefused as error:
        raise UnreadableError(str(error)) from error
    tally.usage += reply.usage
    return reply


async def at_most_tokens(engine: Engine, text: str, enough: int) -> int:
    """Return a bound for the tokens of a text: cheap when it is below `enough`, else their exact number.

    No tokenizer makes more tokens than a text has bytes, so a short text need not be sent to be counted.
    """
    if len(text) <= enough and (count := len(text.encode("utf-8", "replace"))) <= enough:
        return count
    return await engine.count_tokens(text)


async def head_tokens(engine: Engine, messages: tuple[Message, ...]) -> int:
    """Return what the messages before an item take, with room for the template and the item's own frame."""
    counts = [await engine.count_tokens(message.content) for message in messages]
    return sum(counts) + MESSAGE_TOKENS * (len(counts) + 2) + TEMPLATE_TOKENS
