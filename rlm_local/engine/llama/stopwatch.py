"""A token mask whose time is counted."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rlm_local.engine.llama.sampler import TokenMask


class TimedMask:
    """A mask, and the seconds that its answers took since take_s was last called."""

    def __init__(self, mask: TokenMask) -> None:
        self._mask = mask
        self._spent_s = 0.0

    def allows(self, token: int) -> bool:
        began = perf_counter()
        allowed = self._mask.allows(token)
        self._spent_s += perf_counter() - began
        return allowed

    def allowed(self) -> NDArray[np.bool_]:
        began = perf_counter()
        allowed = self._mask.allowed()
        self._spent_s += perf_counter() - began
        return allowed

    def take_s(self) -> float:
        """Return the seconds, and begin at 0 again."""
        spent, self._spent_s = self._spent_s, 0.0
        return spent
