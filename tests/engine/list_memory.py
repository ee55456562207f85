"""A model whose memory is lists and whose logits are a hash, with a tree and a scheduler on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rlm_local.engine.llama.compute import Part, Saved
from rlm_local.engine.llama.interrupt import Aborted, Cancel, NoRoom
from rlm_local.engine.llama.prefix_node import Node, Wanted
from rlm_local.engine.llama.prefix_tree import PrefixTree
from rlm_local.engine.llama.reply import Generated
from rlm_local.engine.llama.request import Job, Request
from rlm_local.engine.llama.sampler import Settings
from rlm_local.engine.llama.scheduler import Scheduler

VOCAB = 32


class ListMemory:
    """A context whose sequences are lists of cells, so shared ones count once.

    Its logits are a hash of the whole sequence: any token that a tree got wrong changes the reply.
    """

    batch = 8
    outputs = 8

    def __init__(self, cells: int = 10**6) -> None:
        self.cells = cells
        self.sequences: dict[int, list[tuple[int, object]]] = {}
        self.computed = 0
        self.calls: list[int] = []  # parts of each computation
        self.before = lambda: None  # called within each computation
        self.may_restore = lambda: True
        self.restored = 0

    def used(self) -> int:
        return len({id(cell) for held in self.sequences.values() for cell in held})

    def share(self, source: int, target: int, start: int, end: int) -> None:
        held = self.sequences.setdefault(target, [])
        after = held[start:]  # of a merge, which has cut out the tokens that now come from another
        assert len(held) >= start
        self.sequences[target] = held[:start] + self.sequences[source][start:end] + after

    def remove(self, sequence: int, start: int, end: int = -1) -> None:
        held = self.sequences.get(sequence, [])
        self.sequences[sequence] = held[:start] + (held[end:] if end >= 0 else [])

    def save(self, sequence: int, start: int, end: int) -> Saved:
        return np.array([token for token, _ in self.sequences[sequence][start:end]], dtype=np.int32).view(np.uint8)

    def restore(self, sequence: int, start: int, end: int, saved: Saved) -> bool:
        held, tokens = self.sequences.setdefault(sequence, []), saved.view(np.int32).tolist()
        assert len(held) == start
        assert len(tokens) == end - start
        if self.used() + len(tokens) > self.cells or not self.may_restore():
            return False
        self.sequences[sequence] = held + [(token, object()) for token in tokens]
        self.restored += len(tokens)
        return True

    def obey(self, cancel: Cancel) -> None:
        self.cancel = cancel

    def compute(self, parts: Sequence[Part]) -> list[NDArray[np.float32]]:
        self.before()
        self.calls.append(len(parts))
        if self.used() + sum(len(part.tokens) for part in parts) > self.cells:
            raise NoRoom("full")
        if self.cancel.is_set:
            raise Aborted("by the flag")
        rows = []
        for part in parts:
            held = self.sequences.setdefault(part.sequence, [])
            assert len(held) == part.start
            for i, token in enumerate(part.tokens):
                held.append((token, object()))
                self.computed += 1
                if i >= len(part.tokens) - part.wanted:
                    seed = hash(tuple(token for token, _ in held)) % 2**32
                    rows.append(np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32))
        return rows


class Letters:
    ends = frozenset({0})

    def piece(self, token: int) -> bytes:
        return bytes([96 + token])


class Bench:
    """A scheduler on a ListMemory."""

    def __init__(
        self, *, cells: int = 10**6, sequences: int = 16, reuse: bool = True, running: int = 8, shelf: int = 0
    ) -> None:
        self.memory = ListMemory(cells)
        self.now = 0.0
        self.tree = PrefixTree(self.memory, cells=cells, sequences=sequences, reuse=reuse, shelf=shelf)
        scratch = range(sequences, sequences + 4)
        running = min(running, sequences)
        self.scheduler = Scheduler(self.memory, self.tree, running=running, scratch=scratch, clock=lambda: self.now)

    def submit(self, prompt: list[int], max_tokens: int = 6, **job) -> Request:
        settings = job.pop("settings", Settings(temperature=0))
        request = Request(Job(prompt, max_tokens, settings, **job), Letters(), cancel=Cancel())
        self.scheduler.submit(request)
        return request

    def run(self) -> None:
        while self.scheduler.step():
            pass

    def generate(self, prompt: list[int], max_tokens: int = 6, **job) -> Generated:
        request = self.submit(prompt, max_tokens, **job)
        self.run()
        return request.result.result(0)

    def check(self) -> None:
        """The tree and the memory agree on every cell."""
        assert self.tree.used == self.memory.used()
        leaves = [node for node in self.tree._nodes() if not node.children]
        held = {leaf.sequence: says(leaf) for leaf in leaves}
        assert held == {s: [token for token, _ in cells] for s, cells in self.memory.sequences.items() if cells}


def says(leaf: Node) -> list[int]:
    return [token for node in reversed(list(leaf.path())) for token in node.tokens]


def cached(bench: Bench, prompt: list[int], scope: str = "", public: int = 0) -> int:
    return bench.tree.known(Wanted.of(scope, prompt, public))[0]


def check_shelf(bench: Bench) -> None:
    """What lies on the shelf is what the tree says, and no more than it may be."""
    roots = [bench.tree._root, *bench.tree._nodes()]
    found = [node for root in roots for node in below(root)]
    assert bench.tree.shelf._nodes.keys() == set(found)
    assert bench.tree.shelf.tokens == sum(len(node.tokens) for node in found) <= bench.tree.shelf.size
    assert bench.tree.shelf.bytes == sum(node.saved.nbytes for node in found if node.saved is not None)
    assert all(node.saved is not None and not node.children and not node.pins for node in found)
    assert all(node.sequence < 0 and node.parent is not None and node.start == node.parent.end for node in found)


def below(node: Node) -> Iterator[Node]:
    for child in node.shelved:
        yield child
        yield from below(child)


def check_scopes(bench: Bench) -> None:
    """What holds words of a scope hangs below nothing that holds another's."""
    nodes = [*bench.tree._nodes()]
    for node in [*nodes, *(one for above in (bench.tree._root, *nodes) for one in below(above))]:
        for above in node.path():
            assert above.scope == node.scope or above.end <= above.public
