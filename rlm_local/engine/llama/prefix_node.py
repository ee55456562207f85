"""A node of the tree of prefixes, and how far a prompt goes along with the nodes below one."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlm_local.engine.llama.compute import Saved

# A conversation that was returned to counts as this many requests younger: one pass over a long document in
# sub-calls would else push out the root that asked for it.
RETURNED_BONUS = 200


class Node:
    """Tokens start..end of every sequence that passes here. Only a leaf has a sequence number of its own.

    children: those whose tokens are in the model's memory; shelved: those whose are not, nor any below them.
    scope: whose the tokens are, but for those before position `public`, which hold nobody's words.
    """

    __slots__ = (
        "asked",
        "children",
        "last_used",
        "parent",
        "pins",
        "public",
        "returned_to",
        "saved",
        "scope",
        "sequence",
        "shelved",
        "start",
        "tokens",
    )

    def __init__(self, scope: str, parent: Node | None, start: int, tokens: array[int], public: int = 0) -> None:
        self.scope = scope
        self.parent = parent
        self.start = start
        self.tokens = tokens
        self.public = public
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

    def is_of(self, scope: str | None) -> bool:
        """Say whether it holds words of a scope, or for None whatever it holds."""
        return scope is None or (self.scope == scope and self.end > self.public)

    def alike(self, other: Node) -> int:
        """Return how many tokens this and another node below the same one may hold in common."""
        return _common(self.tokens, other.tokens, _shareable(self, other) - self.start)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a prompt can come from memory. public: how many of its first tokens hold nobody's words."""

    scope: str
    tokens: NDArray[np.int32]
    public: int = 0

    @staticmethod
    def of(scope: str, prompt: Sequence[int] | NDArray[np.int32], public: int = 0) -> Wanted:
        """All but the last token, whose logits are wanted."""
        return Wanted(scope, np.asarray(prompt[:-1], dtype=np.int32), public)

    def along(self, node: Node) -> int:
        """Return how many of a node's tokens are wanted and may be shared, where all above it are."""
        return _common(node.tokens, self.tokens[node.start :], _shareable(self, node) - node.start)

    def alike(self, other: Wanted) -> int:
        """Return how many tokens two prompts may share."""
        return _common(self.tokens, other.tokens, _shareable(self, other))


def _shareable(one: Node | Wanted, other: Node | Wanted) -> int:
    """Return up to which position two may share: within a scope everywhere, else as far as both say it is public."""
    return sys.maxsize if one.scope == other.scope else min(one.public, other.public)


def _common(one: array[int] | NDArray[np.int32], other: array[int] | NDArray[np.int32], most: int) -> int:
    """Return how many tokens two begin with alike, `most` at most."""
    size = min(len(one), len(other), most)
    if size <= 0 or one[0] != other[0]:
        return 0
    differs = np.flatnonzero(np.frombuffer(one, dtype=np.int32)[:size] != np.frombuffer(other, dtype=np.int32)[:size])
    return int(differs[0]) if len(differs) else size


Shelved: TypeAlias = tuple[Node, ...]


def deepest(node: Node, wanted: Wanted) -> tuple[Node, int]:
    """Return the node in which the longest wanted prefix below `node` ends that is in the memory, and how far in."""
    best = (node, len(node.tokens))
    for child in node.children:
        size = wanted.along(child)
        if not size:
            continue
        found = deepest(child, wanted) if size == len(child.tokens) else (child, size)
        if found[0].start + found[1] > best[0].start + best[1]:
            best = found
    return best


def way(node: Node, wanted: Wanted) -> tuple[int, Shelved]:
    """Return where the longest wanted prefix below `node` ends, shelved or not, and the shelved nodes on its way."""
    best: tuple[int, Shelved] = (node.end, ())
    for child in (*node.children, *node.shelved):  # of equals the one that needs no copy
        size = wanted.along(child)
        if not size:
            continue
        reach, shelved = way(child, wanted) if size == len(child.tokens) else (child.start + size, ())
        if reach > best[0]:
            best = (reach, shelved if child.saved is None else (child, *shelved))
    return best
