"""What all nodes of a run have in common, and where in it a node stands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from rlm_local.controller.budget import Budget
from rlm_local.controller.clock import Clock
from rlm_local.controller.past import Past, PastCell
from rlm_local.controller.remember import Asker, Memory
from rlm_local.ports import Recorder, Repl
from rlm_local.prompts import Profile
from rlm_local.types import Answer, Citation, Corpus, DocumentCoverage, JsonValue, Request, Sampling, Span


class Cite(Protocol):
    """Finds the passages that a value rests on; see documents.cite."""

    def __call__(
        self, value: JsonValue, spans: Sequence[Span], readings: Sequence[str], *, sources: Sequence[Span] = ()
    ) -> tuple[Citation, ...]:
        """Return them. spans: printed; readings: texts that were read; sources: what the answer itself names."""


Validate: TypeAlias = Callable[[JsonValue], Awaitable[str]]
"""The caller's own check of an answer: returns what is wrong with it in a sentence, or ""."""


class Cover(Protocol):
    """Tells which characters of the documents were read by whom; see documents.coverage."""

    def __call__(
        self, *, shown: Sequence[str], given: Sequence[str], read_below: Sequence[Span], codes: Sequence[str]
    ) -> tuple[DocumentCoverage, ...]: ...


def cover_nothing(
    *, shown: Sequence[str], given: Sequence[str], read_below: Sequence[Span], codes: Sequence[str]
) -> tuple[DocumentCoverage, ...]:
    """Tell of no document."""
    return ()


SIDE_BY_SIDE = 4  # children of one level at one time; each has a jail


@dataclass(frozen=True, slots=True)
class Opened:
    """What a node works with."""

    corpus: Corpus
    repl: Repl
    cite: Cite
    cover: Cover = cover_nothing


OpenChild: TypeAlias = Callable[[Request, Corpus | None, Sequence[PastCell]], AbstractAsyncContextManager[Opened]]
"""Opens documents and a jail for a child's request, for the length of the block. The corpus is given where it is the
parent's; in the jail the cells run again whose variables the child has already."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the tree."""

    id: str
    depth: int  # levels below the root
    budget: Budget


@dataclass(frozen=True, slots=True)
class Tree:
    """Shared by the root and everything below it."""

    memory: Memory
    recorder: Recorder
    profile: Profile
    sampling: Sampling
    past: Past
    clock: Clock
    open_child: OpenChild | None  # None: no node has children
    run_child: Callable[[Tree, Request, Corpus | None, Place], Awaitable[Answer]]
    validate: Validate | None = None  # of the root's answer
    ask_before: int | None = None  # sub-calls of one cell that may be asked without the user's word; None: all
    _levels: dict[int, asyncio.Semaphore] = field(default_factory=dict)

    def asker(self, place: Place, *, asks_items: bool = False) -> Asker:
        """Return a node's way to the engine, or that of its typed calls' items."""
        return Asker(self.memory, place.id, place.budget, depth=place.depth, asks_items=asks_items)

    def level(self, depth: int) -> asyncio.Semaphore:
        """Return what a node of this depth holds while it runs; those below it hold another one."""
        return self._levels.setdefault(depth, asyncio.Semaphore(SIDE_BY_SIDE))
