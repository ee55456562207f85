"""Frames of typed calls: what each has cost so far, and the replies to its items on their way into the trace."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import groupby

from rlm_local.events import ItemReply, ItemsReplied, Spent
from rlm_local.ports import Recorder
from rlm_local.types import Reply, Usage


@dataclass(slots=True)
class Frame:
    """A frame that is worked on."""

    spent: Spent = field(default_factory=Spent)

    def add(self, used: Usage, *, remembered: bool) -> None:
        so_far = self.spent
        self.spent = Spent(so_far.subcalls + 1, so_far.usage + used, so_far.remembered + remembered)


# Frames may be under way side by side: each call is booked to the one whose task, or whose task's task, has made it.
FRAME: ContextVar[Frame | None] = ContextVar("frame", default=None)


class ItemLog:
    """Tells the recorder of replies to items before anybody uses them, those that come together in one event.

    A quick engine answers thousands of items a second, and an event for each of them would take most of that second.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._waiting: list[tuple[tuple[str, int], ItemReply]] = []

    async def keep(self, node: str, turn: int, request: str, reply: Reply) -> None:
        """Return once the reply is told. Raises TraceError."""
        self._waiting.append(((node, turn), ItemReply(request, reply)))
        try:
            await asyncio.sleep(0)  # others may have been answered in the same moment
        finally:
            waiting, self._waiting = self._waiting, []
            for (of, number), replies in groupby(waiting, key=lambda one: one[0]):
                self._recorder.write(ItemsReplied(of, number, tuple(item for _, item in replies)))
