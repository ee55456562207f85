"""Which tokens are in the model's memory, as a tree of prefixes, and how a new prompt comes to share them.

A node is a run of cells, one per token; a request computes at a tip, which is a leaf. What was computed stays
until its cells are needed, so a root's conversation outlives the sub-calls that come in between; with a shelf
(shelf.py) it outlives that too. Exact to the token: nothing is rounded to blocks. Scopes share no cell but those of
prompts' beginnings that hold nobody's words, and that each of them has said to be such: rules and worked turns.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from rlm_local.engine.llama.compute import Memory
from rlm_local.engine.llama.prefix_node import Node, Shelved, Wanted, deepest, way
from rlm_local.engine.llama.shelf import Shelf
from rlm_local.errors import EngineError

IDLE_CELLS = 1024  # that nobody is using may stay in cells, where a shelf can take the others
# Of a shelved prefix, so many tokens and this share of them must be wanted before it is copied back.
_WORTH_TOKENS, _WORTH_SHARE = 16, 1 / 32


class PrefixTree:
    """The owner of a memory's cells. One thread at a time.

    cells: tokens that the memory holds at most; sequences: leaves that it can tell apart.
    reuse: False for models whose memory cannot be shared; then nothing stays.
    shelf: tokens that are kept outside of the memory, of what nobody is using or what gives way; 0 where it cannot be
        copied.
    """

    def __init__(self, memory: Memory, *, cells: int, sequences: int, reuse: bool = True, shelf: int = 0) -> None:
        self.cells = cells
        self.used = 0
        self._memory = memory
        self.reuse = reuse
        self._root = Node("", None, 0, array("i"))
        self._free = list(range(sequences - 1, -1, -1))
        self._clock = 0
        self.shelf = Shelf(shelf)

    def known(self, wanted: Wanted) -> tuple[int, int]:
        """Return how many tokens of a prompt can be shared, and how many of those could be evicted as yet."""
        node, inside = self._longest(wanted)
        _, shelved = self._way(wanted)
        if shelved and shelved[0].start < node.start + inside and (branch := shelved[0].parent) is not node:
            # Another branch may be copied back in place of this one: what both have is all that is certain.
            assert branch is not None
            node, inside = branch, len(branch.tokens)
        loose = sum(len(n.tokens) for n in node.path() if not n.pins)
        return node.start + inside, loose - (0 if node.pins else len(node.tokens) - inside)

    def open(self, wanted: Wanted) -> Node:
        """Return a tip that begins where the known prefix of a prompt ends. Give it to close() in the end."""
        self._bring_back(wanted)
        node, inside = self._longest(wanted)
        above = self._attach(node, inside)
        tip = Node(wanted.scope, above, above.end, array("i"), wanted.public)
        tip.asked = len(wanted.tokens) + 1
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
            leaves = self._loose_leaves()
            if not leaves:
                return False
            leaf = min(leaves, key=lambda n: n.age)
            if missing >= len(leaf.tokens) or self._fits_shelf(leaf):
                self._give_up(leaf)
            else:
                self.shelf.clear(leaf)
                self._memory.remove(leaf.sequence, leaf.end - missing)
                del leaf.tokens[-missing:]
                self.used -= missing
        return True

    def flush(self, scope: str | None = None) -> int:
        """Drop what no request is using, of one scope or of all; return how many tokens that were."""
        before = self.used + self.shelf.tokens
        self.shelf.flush(scope)
        while leaves := [leaf for leaf in self._loose_leaves() if leaf.is_of(scope)]:
            for leaf in leaves:
                self._drop(leaf)
        return before - self.used - self.shelf.tokens

    def put_away_idle(self) -> None:
        """Shelve what nobody is using but for the newest IDLE_CELLS; a conversation too, whose next turn waits.

        For when somebody computes. Where the shelf is smaller than the memory more stays, so that no less is known than
        without a shelf.
        """
        if not self.shelf.size:
            return
        idle = self.used - self.pinned()
        while idle > max(IDLE_CELLS, self.cells - self.shelf.size):
            leaf = min(self._loose_leaves(), key=lambda n: n.last_used)
            if not self._fits_shelf(leaf):
                return
            idle -= len(leaf.tokens)
            self._give_up(leaf)

    def _bring_back(self, wanted: Wanted) -> None:
        """Copy what is shelved of a prompt's prefix into the memory again, as far as that pays and there is room."""
        reach, shelved = self._way(wanted)
        if not shelved:
            return
        there, inside = self._longest(wanted)
        known = there.start + inside
        for node in shelved:
            gain = reach - max(known, node.start)  # by this node and all that follow it
            is_there = node.saved is not None  # what gave way to the nodes before it may have pushed it out
            if not is_there or gain < max(_WORTH_TOKENS, len(node.tokens) * _WORTH_SHARE) or not self._restore(node):
                return

    def _restore(self, node: Node) -> bool:
        """Copy a shelved node below one that is in the memory; False where there is no room."""
        above = node.parent
        assert above is not None
        loose = sum(len(shared.tokens) for shared in above.path() if not shared.pins)
        if self.pinned() + loose + len(node.tokens) > self.cells:
            return False
        saved = self.shelf.take(node)  # first, so that it is not what is pushed out
        for shared in above.path():
            shared.pins += 1  # so that it does not give way to what comes below it
        try:
            self.make_room(len(node.tokens))
            sequence = self._sequence_for(above)
        finally:
            for shared in above.path():
                shared.pins -= 1
        if not self._memory.restore(sequence, node.start, node.end, saved):
            self._hand_back(sequence, above)
            self.shelf.reserve(len(node.tokens))
            self.shelf.put(node, saved)
            return False
        above.children.append(node)
        node.sequence = sequence
        self.used += len(node.tokens)
        return True

    def _fits_shelf(self, leaf: Node) -> bool:
        return len(leaf.tokens) <= self.shelf.size

    def _give_up(self, leaf: Node) -> None:
        """Free the cells of a leaf, whose tokens stay on the shelf where there is one that has room for them."""
        if not self._fits_shelf(leaf):
            self._drop(leaf)
            return
        self.shelf.reserve(len(leaf.tokens))
        try:
            saved = self._memory.save(leaf.sequence, leaf.start, leaf.end)
        except (EngineError, MemoryError):
            self._drop(leaf)  # it is computed again if it is wanted; whoever waits for its cells is not to suffer
            return
        self._take_out(leaf)
        self.shelf.put(leaf, saved)

    def _way(self, wanted: Wanted) -> tuple[int, Shelved]:
        """Return what prefix_node.way() does; nothing where nothing is shelved."""
        return way(self._root, wanted) if self.shelf.tokens else (0, ())

    def _longest(self, wanted: Wanted) -> tuple[Node, int]:
        """Return the node in which the longest prefix that is in the memory ends, and how far inside it."""
        return deepest(self._root, wanted) if self.reuse else (self._root, 0)

    def _attach(self, node: Node, inside: int) -> Node:
        """Return a node that ends `inside` tokens into `node` and under which a new tip can hang."""
        if node.parent is None or (inside == len(node.tokens) and not (node.pins and not node.children)):
            return node
        return self._split(node, inside)

    def _split(self, node: Node, inside: int) -> Node:
        """Put the first `inside` tokens of `node` into a node above it, and return that."""
        assert node.parent is not None  # a root has no tokens to split
        upper = Node(node.scope, node.parent, node.start, node.tokens[:inside], node.public)
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
            for rest in [n for n in above.shelved if n.asked == above.asked]:
                self.shelf.clear(rest)
                self.shelf.take(rest)

    def _sequence_for(self, above: Node) -> int:
        """Return a sequence number that holds the tokens up to the end of `above`."""
        while above.sequence < 0 and not self._free:
            # Numbers are short, not cells: give up the leaf that costs least to compute again.
            self._give_up(min(self._loose_leaves(), key=lambda n: (len(n.tokens), n.last_used)))
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
            assert tip.parent is not None
            twins = [(n.alike(tip), n) for n in tip.parent.children if n is not tip]
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
        self.shelf.clear(leaf)
        self._take_out(leaf)

    def _take_out(self, leaf: Node) -> None:
        above = leaf.parent
        assert above is not None  # roots are never dropped
        above.children.remove(leaf)
        self.used -= len(leaf.tokens)
        self._hand_back(leaf.sequence, above)
        leaf.sequence = -1

    def _hand_back(self, sequence: int, above: Node) -> None:
        """Let a sequence end with `above`, or free its number where that has another."""
        if above.parent is not None and not above.children:
            self._memory.remove(sequence, above.end)
            above.sequence = sequence
            return
        self._memory.remove(sequence, 0)
        self._free.append(sequence)

    def _loose_leaves(self) -> list[Node]:
        """Return the leaves that no request is using."""
        return [node for node in self._nodes() if not node.pins and not node.children]

    def _nodes(self) -> Iterator[Node]:
        pending = [*self._root.children]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.children)


def _some_leaf(node: Node) -> Node:
    while node.children:
        node = node.children[0]
    return node
