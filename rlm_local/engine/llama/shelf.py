"""What prefixes hold is put away from the model's memory into ordinary memory, and comes back by a copy.

Attention goes through every cell up to the highest in use, others' too, so what nobody is using slows everybody down
while it lies there. A copy of 500 tokens takes some milliseconds each way; computing them again takes seconds.
"""

from __future__ import annotations

import heapq

from rlm_local.engine.llama.compute import Saved
from rlm_local.engine.llama.prefix_node import Node


class Shelf:
    """The nodes that are put away, of all scopes, `size` tokens at most; 0 keeps nothing."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.tokens = 0
        self.bytes = 0  # of ordinary memory that holds them
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
        for twin in [one for one in above.shelved if len(one.tokens) == len(node.tokens) == one.alike(node)]:
            for below in twin.shelved:
                below.parent = node
            node.shelved += twin.shelved
            node.public = max(node.public, twin.public)  # the same words; another scope's may hang on them
            twin.shelved = []
            self.take(twin)
        node.saved = saved
        above.shelved.append(node)
        self._nodes[node] = None
        self.tokens += len(node.tokens)
        self.bytes += saved.nbytes

    def take(self, node: Node) -> Saved:
        """Return what the memory held of a node, which is not shelved from now on; what is below it stays so."""
        saved = node.saved
        assert saved is not None
        assert node.parent is not None
        node.parent.shelved.remove(node)
        del self._nodes[node]
        self.tokens -= len(node.tokens)
        self.bytes -= saved.nbytes
        node.saved = None
        return saved

    def clear(self, node: Node) -> None:
        """Drop all that is shelved below a node."""
        found = [*node.shelved]
        for one in found:  # which grows: conversations are deep
            found += one.shelved
        for one in reversed(found):
            self.take(one)

    def flush(self, scope: str | None) -> None:
        """Drop what holds words of one scope, or all."""
        found = [one for one in self._nodes if one.is_of(scope)]
        for one in sorted(found, key=lambda node: -node.end):  # what is below goes first
            self.take(one)
