"""What a soak found: how every request ended, what the engine held when it was calm, and whether that is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any

from bench.fault_page import fault_page
from bench.output import write_result
from bench.provenance import Provenance

MOST_GROWTH = 0.03  # of the memory in the last quarter over that in the second


class Ended(StrEnum):
    """How a request ended for whoever sent it."""

    ANSWERED = "answered"
    REFUSED = "refused"  # malformed, and told so
    DEADLINE = "deadline passed"
    HUNG_UP = "hung up"  # by the caller
    LOST = "lost to a kill"  # the connection broke, and the process had been killed
    WRONG = "wrong"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Outcome:
    kind: str
    ended: Ended
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Calm:
    """The engine with no request under way."""

    requests: int  # that had ended by then
    pid: int
    running: int  # requests that it still counts as running or waiting
    cells_used: int  # by its own account, with what waits on the shelf
    cells_freed: int  # by dropping all that was cached
    all_cells: int
    all_cells_served: bool  # then a request for nearly all cells was answered, and they were in the account
    rss_bytes: int
    after_kill: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes in calm moments of the process that was not killed."""

    second_quarter_bytes: float  # medians
    last_quarter_bytes: float

    @property
    def growth(self) -> float:
        return self.last_quarter_bytes / self.second_quarter_bytes - 1


@dataclass(frozen=True, slots=True)
class SoakResult:
    outcomes: Sequence[Outcome]
    calms: Sequence[Calm]
    kills: int
    seconds: float
    said: Sequence[str]  # all that the engine's processes wrote

    def memory(self) -> Memory | None:
        """Return what the last process held, by quarters of its calm moments; None when there are fewer than eight."""
        own = [calm.rss_bytes for calm in self.calms if not calm.after_kill]
        size = len(own) // 4
        if size < 2:  # a median of one is no median
            return None
        return Memory(median(own[size : 2 * size]), median(own[-size:]))

    def faults(self) -> list[str]:
        """Return all that is not as it must be, as sentences."""
        faults = [
            f"{o.kind}: {o.ended}, {o.detail}" for o in self.outcomes if o.ended in (Ended.WRONG, Ended.UNANSWERED)
        ]
        for calm in self.calms:
            at = f"after {calm.requests} requests"
            if calm.running:
                faults.append(f"{at} {calm.running} requests were never ended")
            if calm.cells_used != calm.cells_freed:
                faults.append(f"{at} {calm.cells_used} cells were in use, but {calm.cells_freed} could be freed")
            if not calm.all_cells_served:
                faults.append(f"{at} a request for nearly all of {calm.all_cells} cells was not served")
        memory = self.memory()
        if memory is not None and memory.growth > MOST_GROWTH:
            faults.append(f"memory grew by {memory.growth:.1%} from the second to the last quarter")
        return faults

    def as_object(self, setting: dict[str, Any], made: Provenance) -> dict[str, Any]:
        memory = self.memory()
        return {
            "setting": setting,
            "faults": self.faults(),
            "ended": self._counts(),
            "kinds": self._kinds(),
            "slowest_s": round(max((o.seconds for o in self.outcomes), default=0.0), 3),
            "kills": self.kills,
            "seconds": round(self.seconds, 1),
            "memory": None if memory is None else asdict(memory) | {"growth": memory.growth},
            "calms": [asdict(calm) for calm in self.calms],
            "said": list(self.said)[-50:],
            "provenance": asdict(made),
        }

    def lines(self) -> list[str]:
        """Return the result as a person reads it in a terminal."""
        counts = ", ".join(f"{count} {name}" for name, count in self._counts().items())
        told = [f"{len(self.outcomes)} requests, {self.kills} kills, {self.seconds:.0f} s: {counts}"]
        if memory := self.memory():
            told.append(
                f"memory {memory.second_quarter_bytes / 2**20:.1f} MiB in the second quarter, "
                f"{memory.last_quarter_bytes / 2**20:.1f} MiB in the last: {memory.growth:+.2%}"
            )
        return told + [f"FAULT: {fault}" for fault in self.faults()[:20]]

    def markdown(self, setting: dict[str, Any], made: Provenance) -> str:
        exact = sum(calm.cells_used == calm.cells_freed for calm in self.calms)
        whole = sum(calm.all_cells_served for calm in self.calms)
        slowest = max((o.seconds for o in self.outcomes), default=0.0)
        rows = [
            ("requests", f"{len(self.outcomes)} in {self.seconds:.0f} s, {self.kills} kill -9 among them"),
            *((name, str(count)) for name, count in self._counts().items()),
            ("slowest request", f"{slowest:.1f} s, one that a kill repeated counted whole"),
            ("calm moments", f"{len(self.calms)}; in {exact} the account of the cells was what dropping them freed"),
            (
                "every cell served",
                f"in {whole} of them, by a request that then took nearly all of the {self._cells()}",
            ),
        ]
        if memory := self.memory():
            second, last = memory.second_quarter_bytes / 2**20, memory.last_quarter_bytes / 2**20
            rows.append(
                ("memory", f"{second:.1f} MiB in the second quarter, {last:.1f} in the last: {memory.growth:+.2%}")
            )
        kinds = [
            f"| {kind} | {', '.join(f'{n} {how}' for how, n in ends.items())} |" for kind, ends in self._kinds().items()
        ]
        return fault_page(
            "soak",
            setting,
            made,
            faults=self.faults(),
            rows=rows,
            note=[
                "Memory is the resident size of the one process after the kills, in its calm moments: a process that",
                "was just started is small whatever it leaks, so the part with kills comes first and does not count.",
            ],
            kinds=[
                "| kind of request | ended |",
                "| --- | --- |",
                *kinds,
            ],
        )

    def write(self, folder: Path, setting: dict[str, Any], made: Provenance) -> None:
        """Write result.json and result.md into the folder."""
        write_result(self.as_object(setting, made), folder)
        (folder / "result.md").write_text(self.markdown(setting, made), encoding="utf-8")

    def _cells(self) -> int:
        return max((calm.all_cells for calm in self.calms), default=0)

    def _counts(self) -> dict[str, int]:
        found = Counter(outcome.ended for outcome in self.outcomes)
        return {str(how): found[how] for how in Ended if found[how] or how in (Ended.WRONG, Ended.UNANSWERED)}

    def _kinds(self) -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {}
        for outcome in self.outcomes:
            found.setdefault(outcome.kind, Counter())[str(outcome.ended)] += 1
        return {kind: dict(found[kind].most_common()) for kind in sorted(found)}
