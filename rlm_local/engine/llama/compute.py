"""What the scheduler needs of a model in memory, and one unit of work for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlm_local.engine.llama.interrupt import Cancel
from rlm_local.engine.llama.sampler import Logits

Saved: TypeAlias = NDArray[np.uint8]
"""What a memory held of some tokens, outside of it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens to append to one sequence; one computation takes the parts of many."""

    sequence: int
    start: int  # tokens that the sequence holds already
    tokens: Sequence[int]
    wanted: int = 0  # logits are wanted after each of this many tokens, counted from the end


class Memory(Protocol):
    """The part of binding.Context that the prefix tree moves."""

    def share(self, source: int, target: int, start: int, end: int) -> None: ...
    def remove(self, sequence: int, start: int, end: int = -1) -> None: ...
    def save(self, sequence: int, start: int, end: int) -> Saved: ...
    def restore(self, sequence: int, start: int, end: int, saved: Saved) -> bool: ...


class Computation(Memory, Protocol):
    """binding.Context, as the scheduler needs it."""

    batch: int  # most tokens of one compute()
    outputs: int  # most wanted logits of one compute()

    def obey(self, cancel: Cancel) -> None: ...
    def compute(self, parts: Sequence[Part]) -> list[Logits]: ...


class Vocabulary(Protocol):
    """binding.Model, as the scheduler needs it."""

    @property
    def ends(self) -> frozenset[int]: ...
    def piece(self, token: int) -> bytes: ...
