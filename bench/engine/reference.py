"""What a cache could reach, worked out from token ids alone: without limits, or forgetting what is oldest."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.engine.texts import Tokens


def ideal_hits(prompts: Sequence[Tokens]) -> int:
    """Return the tokens that an unlimited cache would share, prompt after prompt; each computes at least one."""
    cells = sum(map(len, prompts)) + 1
    return lru_hits(prompts, cells)


def lru_hits(prompts: Sequence[Tokens], cells: int) -> int:
    """Return the tokens that a cache of `cells` tokens shares when it forgets the least recently used ones first.

    One request after another; a prefix outlives what follows it, because it is used whenever that is; of what was
    used at the same time the end goes first. A prompt's last token is always computed, for its logits.
    """
    cache = _Lru(cells)
    return sum(cache.use(prompt) for prompt in prompts)


@dataclass(slots=True)
class _Token:
    """One token in its place after others."""

    parent: _Token | None
    depth: int
    after: dict[int, _Token] = field(default_factory=dict)
    used_at: int = 0
    token: int = -1


class _Lru:
    def __init__(self, cells: int) -> None:
        self._cells = cells
        self._root = _Token(None, 0)
        self._clock = 0
        self._held = 0
        self._ends: list[tuple[int, int, int, _Token]] = []  # by age, deepest first; some are out of date

    def use(self, prompt: Tokens) -> int:
        """Take in a prompt and return how many of its tokens were there."""
        if len(prompt) > self._cells:
            raise ValueError(f"a prompt of {len(prompt)} tokens does not fit {self._cells} cells")
        self._clock += 1
        node, hits = self._root, 0
        for token in prompt:
            if token not in node.after:
                break
            node = node.after[token]
            node.used_at = self._clock
            hits += 1
        found = node
        self._make_room(len(prompt) - hits)
        for token in prompt[hits:]:
            node.after[token] = _Token(node, node.depth + 1, used_at=self._clock, token=token)
            node = node.after[token]
        self._held += len(prompt) - hits
        self._note_end(found)
        self._note_end(node)
        return min(hits, len(prompt) - 1)

    def _make_room(self, count: int) -> None:
        while self._held + count > self._cells:
            used_at, _, _, node = heapq.heappop(self._ends)
            if node.after or node.used_at != used_at or node.parent is None:
                continue  # it was used since, or is an end no more
            if node.used_at == self._clock:
                raise AssertionError("the prompt in use would have to give way")
            del node.parent.after[node.token]
            self._held -= 1
            above, node.parent = node.parent, None
            self._note_end(above)

    def _note_end(self, node: _Token) -> None:
        if not node.after and node.parent is not None:
            heapq.heappush(self._ends, (node.used_at, -node.depth, id(node), node))
