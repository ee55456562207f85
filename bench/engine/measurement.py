"""What a measurement is: who takes part in which round, and what one of them gives."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from bench.engine.rows import Row
from bench.engine.texts import Tokenizer
from tools.peers import Peer

Figures: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement is given."""

    weights: Path
    model: str
    tokenizer: Tokenizer
    data: Path
    scale: float
    peers: Mapping[str, Peer]

    def count(self, full: int, least: int = 2) -> int:
        """Return how many of `full` requests to make at this scale."""
        return max(least, round(full * self.scale))


@dataclass(frozen=True, slots=True)
class Measurement:
    """contestants: given the bench, the round and the rows that there are, who is measured, in order."""

    name: str
    title: str
    model: str  # the card that it is measured on unless another is asked for
    contestants: Callable[[Bench, int, Sequence[Row]], Sequence[str]]
    run: Callable[[Bench, str], Coroutine[Any, Any, Figures]]
    report: Callable[[Sequence[Row]], list[str]]  # lines of Markdown
    repeated: bool = False  # timings are, counts are not
