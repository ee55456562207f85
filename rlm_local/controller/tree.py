"""What all nodes of a run have in common, and where in it a node stands."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_local.controller.budget import Budget
from rlm_local.controller.clock import Clock
from rlm_local.controller.past import Past
from rlm_local.controller.remember import Asker, Memory
from rlm_local.ports import Recorder
from rlm_local.prompts import Profile
from rlm_local.types import Sampling


@dataclass(frozen=True, slots=True)
class Tree:
    """Shared by the root and everything below it."""

    memory: Memory
    recorder: Recorder
    profile: Profile
    sampling: Sampling
    past: Past
    clock: Clock

    def asker(self, place: Place) -> Asker:
        """Return a node's way to the engine."""
        return Asker(self.memory, place.id, place.budget)


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the tree."""

    id: str
    depth: int  # levels below the root
    budget: Budget
