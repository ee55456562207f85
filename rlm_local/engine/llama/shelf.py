"""What prefixes hold is put away from the model's memory into ordinary memory, and comes back by a copy.

Attention goes through every cell up to the highest in use, others' too, so what nobody is using slows everybody down
while it lies there. A copy of 500 tokens takes some milliseconds each way; computing them again takes seconds.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rlm_local.engine.llama.compute import Saved

# A conversation that was returned to counts as this many requests younger: one pass over a long document in
# sub-calls would else push out the root that asked for it.
RETURNED_BONUS = 200


class Node:
    """Tokens start..end of every sequence that passes here. Only a leaf has a sequence number of its own.

    children: those whose tokens are in the model's memory; shelved: those whose are not, nor any below them.
    """

    __slots__ = (
        "asked",
        "children",
        "last_used",
        "parent",
        "pins",
        "returned_to",
        "saved",
        "scope",
        "sequence",
        "shelved",
        "start",
        "tokens",
    )

    def __init__(self, scope: str, parent: Node | None, start: int, tokens: array[int]) -> None:
        self.scope = scope
        self.parent = parent
        self.start = start
        self.tokens = tokens
        self.children: list[Node] = []
        self.shelved: list[Node] = []
        self.saved: Saved | None = None  # what the memory held, for a node that is shelved
        self.sequence = -1
        self.pins = 0  # requests under way at or below this node
        self.last_used = 0
        self.asked = 0  # where the prompt that wrote this node ended; what follows is its reply
        self.returned_to = False  # a later prompt went on where a reply stood: a conversation

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    @property
    def age(self) -> int:
        """When it was used last, in requests; the smaller, the sooner it goes."""
        return self.last_used + RETURNED_BONUS * self.returned_to

    def path(self) -> Iterator[Node]:
        """This node and all above it that hold tokens, upwards."""
        node: Node | None = self
        while node is not None and node.parent is not None:
            yield node
            node = node.parent


class Shelf:
    """The nodes that are put away, of all scopes, `size` tokens at most; 0 keeps nothing."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.tokens = 0
        self._nodes: dict[Node, None] = {}  # a set in the order of putting, so that equals go in it

    def reserve(self, count: int) -> None:
        """Make room for so many tokens, `size` at most: what was used longest ago goes, from the ends."""
        if self.tokens + count <= self.size:
            return
        ends = [(one.age, at, one) for at, one in enumerate(self._nodes) if not one.shelved]
        heapq.heapify(ends)
        while self.tokens + count > self.size:
            _, at, node = heapq.heappop(ends)
            above = node.parent
            self.take(node)
            if above in self._nodes and not above.shelved:
                heapq.heappush(ends, (above.age, at, above))

    def put(self, node: Node, saved: Saved) -> None:
        """Keep a node, which no memory holds any more, with all that is shelved below it. reserve() came before."""
        above = node.parent
        assert above is not None  # roots hold no tokens
        for twin in [one for one in above.shelved if one.tokens == node.tokens]:
            for below in twin.shelved:
                below.parent = node
            node.shelved += twin.shelved
            twin.shelved = []
            self.take(twin)
        node.saved = saved
        above.shelved.append(node)
        self._nodes[node] = None
        self.tokens += len(node.tokens)

    def take(self, node: Node) -> Saved:
        """Return what the memory held of a node, which is not shelved from now on; what is below it stays so."""
        saved = node.saved
        assert saved is not None
        assert node.parent is not None
        node.parent.shelved.remove(node)
        del self._nodes[node]
        self.tokens -= len(node.tokens)
        node.saved = None
        return saved

    def clear(self, node: Node) -> int:
        """Drop all that is shelved below a node; return how many tokens that were."""
        before, found = self.tokens, [*node.shelved]
        for one in found:  # which grows: conversations are deep
            found += one.shelved
        for one in reversed(found):
            self.take(one)
        return before - self.tokens


def way(node: Node, wanted: NDArray[np.int32]) -> tuple[int, tuple[tuple[Node, int], ...]]:
    """Return how many tokens of `wanted` are known below a node, and which shelved nodes hold how many of them."""
    best: tuple[int, tuple[tuple[Node, int], ...]] = (0, ())
    for child in (*node.children, *node.shelved):  # of equals the one that needs no copy
        size = common(child.tokens, wanted)
        if not size:
            continue
        reach, shelved = way(child, wanted[size:]) if size == len(child.tokens) else (0, ())
        if size + reach > best[0]:
            best = (size + reach, shelved if child.saved is None else ((child, size), *shelved))
    return best


def common(tokens: array[int], wanted: Sequence[int] | NDArray[np.int32]) -> int:
    """Return how many tokens two begin with alike."""
    size = min(len(tokens), len(wanted))
    if not size or tokens[0] != wanted[0]:
        return 0
    differs = np.flatnonzero(np.frombuffer(tokens, dtype=np.int32)[:size] != wanted[:size])
    return int(differs[0]) if len(differs) else size
