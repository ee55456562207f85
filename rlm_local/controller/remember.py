"""What was asked before is not asked again: recorded replies, and equal requests within a run."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import fields, replace

from rlm_local.controller.budget import Budget
from rlm_local.controller.clock import Clock
from rlm_local.controller.frames import ItemLog
from rlm_local.controller.past import Past
from rlm_local.events import Abandoned, Replied, TokensCounted
from rlm_local.ports import CallCancelled, Engine, Recorder
from rlm_local.types import Completion, EngineInfo, Reply, Usage

ITEMS_KEPT = 1 << 16  # replies to items of typed calls that are remembered, of the last ones
# Fields of a request that say who asks and when it is served; the reply is the same.
_NOT_DECIDING = frozenset({"scope", "depth", "public_messages"})


class Memory:
    """All replies of a run, and the engine behind them. Its nodes share it, each by an `Asker` of its own."""

    def __init__(self, engine: Engine, recorder: Recorder, past: Past, clock: Clock) -> None:
        self._engine = engine
        self._recorder = recorder
        self._past = past
        self._clock = clock
        self._known: dict[str, asyncio.Future[Reply]] = {}
        self._known_items: dict[str, asyncio.Future[Reply]] = {}
        self._item_log = ItemLog(recorder)
        self._counts = dict(past.counts)

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    async def complete(self, completion: Completion, node: str, turn: int, *, is_item: bool) -> tuple[Reply, bool]:
        """Return the reply, and whether it was remembered.

        is_item: of a typed call. There may be a quarter of a million: they are told many in an event, and the oldest
        are forgotten.
        """
        request = request_digest(completion)
        if completion.sampling.temperature > 0:
            return await self._replied(request, completion, node, turn, is_item=is_item), False
        all_known = self._known_items if is_item else self._known
        while (known := all_known.get(request)) is not None:
            await asyncio.wait({known})
            if not known.cancelled() and known.exception() is None:
                return replace(known.result(), usage=Usage()), True
            # Whoever asked first got no reply: the next one asks for itself.
            if all_known.get(request) is known:
                del all_known[request]
        known = self._begun(request, is_item=is_item)
        try:
            reply = await self._replied(request, completion, node, turn, is_item=is_item)
        except BaseException:
            known.cancel()
            raise
        known.set_result(reply)
        return reply, False

    def recall(self, node: str, turn: int) -> None:
        """Know all that a turn of the past was replied, as if it had been asked again."""
        for replied in self._past.replies(node, turn):
            self._begun(replied.request, is_item=False).set_result(replied.reply)
        for item in self._past.items(node, turn):
            self._begun(item.request, is_item=True).set_result(item.reply)

    def recall_below(self, node: str) -> None:
        """Know all that a child of the past and its own children were replied."""
        for of, turn in self._past.turns_below(node):
            self.recall(of, turn)

    async def count_tokens(self, text: str) -> int:
        digest = text_digest(text)
        if digest not in self._counts:
            count = self._counts[digest] = await self._engine.count_tokens(text)
            self._recorder.write(TokensCounted(digest, count))
        return self._counts[digest]

    async def _replied(self, request: str, completion: Completion, node: str, turn: int, *, is_item: bool) -> Reply:
        recorded = self._past.item(request) if is_item else self._past.reply(request)
        if recorded is not None:
            return recorded
        self._clock.go_live()
        try:
            reply = await self._engine.complete(completion)
        except CallCancelled as cancelled:
            self._recorder.write(Abandoned(node, turn, cancelled.usage))
            raise
        if is_item:
            await self._item_log.keep(node, turn, request, reply)
        else:
            self._recorder.write(Replied(node, turn, request, reply))
        return reply

    def _begun(self, request: str, *, is_item: bool) -> asyncio.Future[Reply]:
        """Return what will hold the reply to a request, for all that ask the same."""
        all_known = self._known_items if is_item else self._known
        if is_item and len(all_known) >= ITEMS_KEPT:
            del all_known[next(iter(all_known))]
        known = all_known[request] = asyncio.get_running_loop().create_future()
        return known


class Asker:
    """One node's way to the engine. Implements ports.Engine.

    A request that was answered in this run, recorded before or not, is not asked again. A reply of the past is given
    as it was, usage included: it was paid in this run. At temperature 0 an equal request is answered from memory, at
    no cost; one that is under way is waited for. asks_items: see Memory.complete.
    """

    def __init__(self, memory: Memory, node: str, budget: Budget, *, depth: int = 0, asks_items: bool = False) -> None:
        self._memory = memory
        self._node = node
        self.budget = budget  # on whose account memories are counted
        self._depth = depth
        self._asks_items = asks_items
        self.turn = 0

    @property
    def info(self) -> EngineInfo:
        return self._memory.info

    async def complete(self, completion: Completion) -> Reply:
        """See ports.Engine. A reply from memory has no usage. depth: of the request, below this node."""
        deeper = replace(completion, depth=self._depth + completion.depth)
        reply, remembered = await self._memory.complete(deeper, self._node, self.turn, is_item=self._asks_items)
        if remembered:
            self.budget.book(0, Usage(), remembered=1)
        return reply

    async def count_tokens(self, text: str) -> int:
        """See ports.Engine. A text is counted once a run."""
        return await self._memory.count_tokens(text)


def request_digest(completion: Completion) -> str:
    """Return a digest of all that decides the reply to a request."""
    names = (field.name for field in fields(completion) if field.name not in _NOT_DECIDING)
    return text_digest(repr([getattr(completion, name) for name in names]))


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
