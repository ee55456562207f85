"""Which tokens are in the model's memory, as a tree of prefixes, and how a new prompt comes to share them.

A node is a run of cells, one per token; a request computes at a tip, which is a leaf. What was computed stays
until its cells are needed, so a root's conversation outlives the sub-calls that come in between. Exact to the
token: nothing is rounded to blocks. Every scope has a tree of its own: scopes never share a cell.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rlm_local.engine.llama.compute import Memory

# A conversation that was returned to counts as this many requests younger: one pass over a long document in
# sub-calls would else push out the root that asked for it.
_RETURNED_BONUS = 200


class Node:
    """Tokens start..end of every sequence that passes here. Only a leaf has a sequence number of its own."""

    __slots__ = (
        "asked",
        "children",
        "last_used",
        "parent",
        "pins",
        "returned_to",
        "scope",
        "sequence",
        "start",
        "tokens",
    )

    def __init__(self, scope: str, parent: Node | None, start: int, tokens: array[int]) -> None:
        self.scope = scope
        self.parent = parent
        self.start = start
        self.tokens = tokens
        self.children: list[Node] = []
        self.sequence = -1
        self.pins = 0  # requests under way at or below this node
        self.last_used = 0
        self.asked = 0  # where the prompt that wrote this node ended; what follows is its reply
        self.returned_to = False  # a later prompt went on where a reply stood: a conversation

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    def path(self) -> Iterator[Node]:
        """This node and all above it that hold tokens, upwards."""
        node: Node | None = self
        while node is not None and node.parent is not None:
            yield node
            node = node.parent


class PrefixTree:
    """The owner of a memory's cells. One thread at a time.

    cells: tokens that the memory holds at most; sequences: leaves that it can tell apart.
    reuse: False for models whose memory cannot be shared; then nothing stays.
    """

    def __init__(self, memory: Memory, *, cells: int, sequences: int, reuse: bool = True) -> None:
        self.cells = cells
        self.used = 0
        self._memory = memory
        self.reuse = reuse
        self._roots: dict[str, Node] = {}
        self._free = list(range(sequences - 1, -1, -1))
        self._clock = 0

    def known(self, scope: str, prompt: Sequence[int]) -> tuple[int, int]:
        """Return how many tokens of `prompt` can be shared, and how many of those could be evicted as yet.

        At least the last token is computed again, because its logits are wanted.
        """
        node, inside = self._longest(scope, prompt)
        loose = sum(len(n.tokens) for n in node.path() if not n.pins)
        return node.start + inside, loose - (0 if node.pins else len(node.tokens) - inside)

    def open(self, scope: str, prompt: Sequence[int]) -> Node:
        """Return a tip that begins where the known prefix of `prompt` ends. Give it to close() in the end."""
        node, inside = self._longest(scope, prompt)
        above = self._attach(node, inside)
        tip = Node(scope, above, above.end, array("i"))
        tip.asked = len(prompt)
        tip.returned_to = above.returned_to or 0 < above.asked <= above.end
        self._clock += 1
        tip.last_used = self._clock
        for shared in above.path():
            shared.pins += 1
            shared.last_used = self._clock
        tip.pins = 1
        self._drop_stale_reply(above)
        tip.sequence = self._sequence_for(above)
        above.children.append(tip)
        return tip

    def grow(self, tip: Node, tokens: Sequence[int]) -> None:
        """Note that the memory holds `tokens` too, at the end of the tip."""
        tip.tokens.extend(tokens)
        self.used += len(tokens)

    def close(self, tip: Node) -> None:
        """End a request: what was computed stays, once."""
        for node in tip.path():
            node.pins -= 1
        if self.reuse:
            self._memory.remove(tip.sequence, tip.end)  # an aborted step may have left cells
            self._merge(tip)
        if not self.reuse or not tip.tokens:
            self._drop(tip)

    def pinned(self) -> int:
        """Return the cells that requests under way hold; all others can be evicted."""
        return sum(len(node.tokens) for node in self._nodes() if node.pins)

    def make_room(self, count: int) -> bool:
        """Evict until `count` cells are free: leaves first, least recently used first, from their ends.

        False when all that is left is in use.
        """
        while (missing := count - (self.cells - self.used)) > 0:
            leaves = [node for node in self._nodes() if not node.pins and not node.children]
            if not leaves:
                return False
            leaf = min(leaves, key=lambda n: n.last_used + _RETURNED_BONUS * n.returned_to)
            if missing >= len(leaf.tokens):
                self._drop(leaf)
            else:
                self._memory.remove(leaf.sequence, leaf.end - missing)
                del leaf.tokens[-missing:]
                self.used -= missing
        return True

    def flush(self, scope: str | None = None) -> int:
        """Drop what no request is using, of one scope or of all; return the cells that this freed."""
        before = self.used
        while leaves := [n for n in self._nodes(scope) if not n.pins and not n.children]:
            for leaf in leaves:
                self._drop(leaf)
        return before - self.used

    def _longest(self, scope: str, prompt: Sequence[int]) -> tuple[Node, int]:
        """Return the node in which the longest known prefix of prompt[:-1] ends, and how far inside it."""
        root = self._roots.setdefault(scope, Node(scope, None, 0, array("i")))
        if not self.reuse:
            return root, 0
        return _deepest(root, np.asarray(prompt[:-1], dtype=np.int32))

    def _attach(self, node: Node, inside: int) -> Node:
        """Return a node that ends `inside` tokens into `node` and under which a new tip can hang."""
        if node.parent is None or (inside == len(node.tokens) and not (node.pins and not node.children)):
            return node
        return self._split(node, inside)

    def _split(self, node: Node, inside: int) -> Node:
        """Put the first `inside` tokens of `node` into a node above it, and return that."""
        assert node.parent is not None  # a root has no tokens to split
        upper = Node(node.scope, node.parent, node.start, node.tokens[:inside])
        upper.pins, upper.last_used = node.pins, node.last_used
        upper.asked, upper.returned_to = node.asked, node.returned_to
        upper.children = [node]
        node.parent.children[node.parent.children.index(node)] = upper
        node.parent, node.start, node.tokens = upper, upper.end, node.tokens[inside:]
        return upper

    def _drop_stale_reply(self, above: Node) -> None:
        """Drop the rest of a reply that a next turn left early.

        The same text was only cut into other tokens, and the old ones will not come back.
        """
        if 0 < above.asked <= above.end:
            for rest in [n for n in above.children if not n.pins and not n.children and n.asked == above.asked]:
                self._drop(rest)

    def _sequence_for(self, above: Node) -> int:
        """Return a sequence number that holds the tokens up to the end of `above`."""
        while above.sequence < 0 and not self._free:
            # Numbers are short, not cells: give up the leaf that costs least to compute again.
            leaves = [node for node in self._nodes() if not node.pins and not node.children]
            self._drop(min(leaves, key=lambda n: (len(n.tokens), n.last_used)))
        if above.sequence >= 0:  # it was a leaf, whose number nobody else needs
            sequence, above.sequence = above.sequence, -1
            return sequence
        sequence = self._free.pop()
        if above.end:
            self._memory.share(_some_leaf(above).sequence, sequence, 0, above.end)
        return sequence

    def _merge(self, tip: Node) -> None:
        """Let the tip hold the cells of a sibling for what both say."""
        while tip.tokens:
            mine = np.frombuffer(tip.tokens, dtype=np.int32).copy()
            assert tip.parent is not None
            twins = [(_common(n.tokens, mine), n) for n in tip.parent.children if n is not tip]
            size, twin = max(twins, key=lambda pair: pair[0], default=(0, tip))
            if not size:
                return
            self._memory.remove(tip.sequence, tip.start, tip.start + size)
            self._memory.share(_some_leaf(twin).sequence, tip.sequence, tip.start, tip.start + size)
            self.used -= size
            above = self._attach(twin, size)
            above.returned_to |= tip.returned_to
            above.last_used = max(above.last_used, tip.last_used)
            tip.parent.children.remove(tip)
            if above.sequence >= 0:  # a closed leaf: the tip goes on from it, or is the same
                self._memory.remove(above.sequence, 0)
                self._free.append(above.sequence)
                above.sequence = -1
            above.children.append(tip)
            tip.parent, tip.start, tip.tokens = above, above.end, tip.tokens[size:]

    def _drop(self, leaf: Node) -> None:
        above = leaf.parent
        assert above is not None  # roots are never dropped
        above.children.remove(leaf)
        self.used -= len(leaf.tokens)
        if above.parent is not None and not above.children:
            self._memory.remove(leaf.sequence, leaf.start)
            above.sequence = leaf.sequence
            return
        self._memory.remove(leaf.sequence, 0)
        self._free.append(leaf.sequence)

    def _nodes(self, scope: str | None = None) -> Iterator[Node]:
        roots = self._roots.values() if scope is None else [self._roots[scope]] if scope in self._roots else []
        pending = [node for root in roots for node in root.children]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.children)


def _deepest(node: Node, wanted: NDArray[np.int32]) -> tuple[Node, int]:
    best = (node, len(node.tokens))
    for child in node.children:
        size = _common(child.tokens, wanted)
        if not size:
            continue
        whole = size == len(child.tokens)
        found = _deepest(child, wanted[size:]) if whole else (child, size)
        if found[0].start + found[1] > best[0].start + best[1]:
            best = found
    return best


def _some_leaf(node: Node) -> Node:
    while node.children:
        node = node.children[0]
    return node


def _common(tokens: array[int], wanted: NDArray[np.int32]) -> int:
    size = min(len(tokens), len(wanted))
    if not size or tokens[0] != wanted[0]:
        return 0
    differs = np.flatnonzero(np.frombuffer(tokens, dtype=np.int32)[:size] != wanted[:size])
    return int(differs[0]) if len(differs) else size
