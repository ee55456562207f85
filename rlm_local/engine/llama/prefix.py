"""Which tokens are still in the model's memory, and how a new prompt comes to share them.

Every finished request stays resident as a sequence until its cells are needed, so a root's conversation
outlives the sub-calls that come in between. Exact to the token: nothing is rounded to blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Memory(Protocol):
    """The part of binding.Context that the cache moves."""

    def share(self, source: int, target: int, end: int) -> None: ...
    def remove(self, sequence: int, start: int) -> None: ...


class Resident:
    """A sequence and the tokens that the memory holds for it."""

    __slots__ = ("_count", "_store", "asked", "last_used", "returned_to", "sequence", "shared")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.asked = 0  # tokens of the last prompt; what follows them is the reply
        self.shared = 0  # tokens that it took over from another resident
        self.last_used = 0
        self.returned_to = False  # a later request went on where this one ended: a conversation
        self._store = np.empty(256, dtype=np.int32)
        self._count = 0

    @property
    def tokens(self) -> NDArray[np.int32]:
        return self._store[: self._count]

    def append(self, tokens: Sequence[int] | NDArray[np.int32]) -> None:
        """Note that the memory holds `tokens` too."""
        end = self._count + len(tokens)
        if end > len(self._store):
            grown = np.empty(max(end, 2 * len(self._store)), dtype=np.int32)
            grown[: self._count] = self.tokens
            self._store = grown
        self._store[self._count : end] = tokens
        self._count = end

    def cut(self, end: int) -> None:
        self._count = min(self._count, end)


class PrefixCache:
    """Residents, the longest common prefix of a prompt with any of them, and who goes when room is short.

    sequences: residents that the memory can tell apart.
    reuse: False for models whose memory cannot be shared; then one resident at a time, computed anew.
    One claim is open at a time: claim, append what was computed, settle.
    """

    def __init__(self, memory: Memory, *, sequences: int, reuse: bool = True) -> None:
        self._memory = memory
        self._reuse = reuse
        self._residents: list[Resident] = []
        self._free = list(range(sequences - 1, -1, -1))
        self._clock = 0

    def claim(self, prompt: Sequence[int]) -> Resident:
        """Return a resident whose tokens are the longest known prefix of `prompt`, cut to leave one to compute.

        At least the last token is computed again, because its logits are wanted. The caller appends the
        tokens that it computes, and calls settle() however the request ends.
        """
        wanted = np.asarray(prompt[:-1], dtype=np.int32)
        donor, common = self._longest(wanted)
        resident = self._continued(donor, common) if donor is not None else None
        if resident is None:
            resident = Resident(self._free_sequence(keep=donor))
            if donor is not None:
                self._memory.share(donor.sequence, resident.sequence, common)
                resident.append(wanted[:common])
                resident.shared = common
            self._residents.append(resident)
        # Only the one that goes on was used: the tokens that it shares live on in it, and the rest of its
        # donor was no help.
        self._clock += 1
        resident.last_used = self._clock
        resident.asked = len(prompt)
        return resident

    def settle(self, claimed: Resident) -> None:
        """End a claim: what was computed stays, and residents that say nothing more than it are dropped."""
        if not self._reuse:
            self._drop(claimed)
            return
        self._memory.remove(claimed.sequence, len(claimed.tokens))  # an aborted step may have left cells
        tokens = claimed.tokens
        for other in [r for r in self._residents if r is not claimed]:
            size = len(other.tokens)
            if size <= len(tokens) and np.array_equal(other.tokens, tokens[:size]):
                claimed.returned_to |= other.returned_to
                self._drop(other)
        if not len(tokens):
            self._drop(claimed)

    def make_room(self, *, keep: Resident) -> bool:
        """Drop the resident that is least likely to be wanted; False when only `keep` is left.

        Least recently used first, but a conversation that was returned to outlives one-off requests: one
        pass over a long document in sub-calls would push out the root that asked for it.
        """
        others = [r for r in self._residents if r is not keep]
        if not others:
            return False
        self._drop(min(others, key=lambda r: (r.returned_to, r.last_used)))
        return True

    def _longest(self, wanted: NDArray[np.int32]) -> tuple[Resident | None, int]:
        best, common = None, 0
        for resident in self._residents:
            length = _common(resident.tokens, wanted)
            if length > common:
                best, common = resident, length
        return best, common

    def _continued(self, donor: Resident, common: int) -> Resident | None:
        """Return `donor` cut to `common` tokens if nothing worth keeping is lost by that, else None.

        A prompt that reaches into the donor's reply is the next turn of its conversation. Where it leaves
        that reply early, the same text was only cut into other tokens, and the old ones will not come back.
        """
        next_turn = common >= donor.asked
        only_one = len(self._residents) == 1 and not self._free
        if not (next_turn or only_one or common == len(donor.tokens)):
            return None
        donor.returned_to |= next_turn
        self._memory.remove(donor.sequence, common)
        donor.cut(common)
        return donor

    def _free_sequence(self, *, keep: Resident | None) -> int:
        if not self._free:
            # Numbers are short, not cells: give up the resident that costs least to compute again.
            others = [r for r in self._residents if r is not keep]
            self._drop(min(others, key=lambda r: (len(r.tokens) - r.shared, r.last_used)))
        return self._free.pop()

    def _drop(self, resident: Resident) -> None:
        self._memory.remove(resident.sequence, 0)
        self._residents.remove(resident)
        self._free.append(resident.sequence)


def _common(one: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    size = min(len(one), len(other))
    differs = np.flatnonzero(one[:size] != other[:size])
    return int(differs[0]) if len(differs) else size
