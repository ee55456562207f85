"""What a load found: how every request ended, what crossed between tenants, how /health was, and what was kept."""

from __future__ import annotations

import math
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
from rlm_local.limits import MIB

HEALTH_P99_MS = 250.0
MOST_GROWTH = 0.05  # of the memory in the last quarter over that in the second
LEAST_SAMPLES = 40  # below them quarters tell nothing


class Ended(StrEnum):
    """How a request ended for whoever sent it."""

    ANSWERED = "answered"
    ERROR = "clear error"  # in place of an answer: in OpenAI's shape, and with a word that says come again
    REFUSED = "refused"  # as it had to be
    DROPPED = "dropped"  # by the caller, in mid-stream
    WRONG = "wrong"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Outcome:
    kind: str
    ended: Ended
    seconds: float  # with the waits that the server asked for
    detail: str = ""
    turned_away: tuple[int, ...] = ()  # statuses that told it to come again before
    crossed: tuple[str, ...] = ()  # tenants whose canary came out, and who did not ask
    has_own: bool = False  # the canary of who asked came out


@dataclass(frozen=True, slots=True)
class Sample:
    """What is held at one moment."""

    requests: int  # that had ended
    kills: int
    server_rss_bytes: int
    server_descriptors: int
    engine_rss_bytes: int
    engine_shelved_bytes: int  # of these, what it keeps on purpose, up to a bound, and fills up in a while
    engine_descriptors: int
    processes: int  # below the server


@dataclass(frozen=True, slots=True)
class LoadResult:
    outcomes: Sequence[Outcome]
    kills: Sequence[int]  # how many requests had ended at each
    health: Sequence[str]  # milliseconds, or what went wrong
    samples: Sequence[Sample]  # while the load was on
    before: Sample  # at rest, when each kind of request had been answered once
    after: Sample  # at rest
    seconds: float
    found: Sequence[str]  # what else is not as it must be
    clients: int

    def health_ms(self) -> list[float]:
        return sorted(float(told) for told in self.health if not told.startswith("failed"))

    def memory(self) -> dict[str, tuple[float, float]]:
        """Return medians in the second and the last quarter, by process; those of the engine since the last kill."""
        last = max((sample.kills for sample in self.samples), default=0)
        engine = [sample for sample in self.samples if sample.kills == last]
        series = {
            "server": [sample.server_rss_bytes for sample in self.samples],
            "engine": [sample.engine_rss_bytes - sample.engine_shelved_bytes for sample in engine],
        }
        return {name: _quarters(values) for name, values in series.items() if len(values) >= LEAST_SAMPLES}

    def faults(self) -> list[str]:
        """Return all that is not as it must be, as sentences."""
        faults = list(self.found)
        for one in self.outcomes:
            if one.ended in (Ended.WRONG, Ended.UNANSWERED):
                faults.append(f"{one.kind}: {one.ended}, {one.detail}")
            if one.crossed:
                faults.append(f"{one.kind}: what came back holds the canary of {', '.join(one.crossed)}")
        if failed := [told for told in self.health if told.startswith("failed")]:
            faults.append(f"/health {failed[0]}, {len(failed)} times")
        if (p99 := percentile(self.health_ms(), 0.99)) > HEALTH_P99_MS:
            faults.append(f"p99 of /health is {p99:.0f} ms, but may be {HEALTH_P99_MS:g}")
        for name, (second, last) in self.memory().items():
            if last > second * (1 + MOST_GROWTH):
                faults.append(
                    f"memory of the {name} grew by {last / second - 1:.1%} from the second to the last quarter"
                )
        for name in ("server_descriptors", "engine_descriptors", "processes"):
            if getattr(self.after, name) > getattr(self.before, name):
                told = name.replace("_", " ")
                faults.append(f"{told}: {getattr(self.before, name)} before, {getattr(self.after, name)} after")
        return faults

    def as_object(self, setting: dict[str, Any], made: Provenance) -> dict[str, Any]:
        return {
            "setting": setting,
            "faults": self.faults(),
            "ended": self._counts(),
            "kinds": self._kinds(),
            "crossed": sum(bool(one.crossed) for one in self.outcomes),
            "own_canaries": sum(one.has_own for one in self.outcomes),
            "turned_away": self._turned_away(),
            "errors": [f"{one.kind}: {one.detail}" for one in self.outcomes if one.ended is Ended.ERROR][:200],
            "kills": list(self.kills),
            "seconds": round(self.seconds, 1),
            "health_ms": {name: percentile(self.health_ms(), share) for name, share in _SHARES.items()},
            "health_count": len(self.health),
            "memory": self.memory(),
            "before": asdict(self.before),
            "after": asdict(self.after),
            "provenance": asdict(made),
        }

    def lines(self) -> list[str]:
        """Return the result as a person reads it in a terminal."""
        return [f"{name}: {value}" for name, value in self._rows()] + [f"FAULT: {each}" for each in self.faults()[:20]]

    def markdown(self, setting: dict[str, Any], made: Provenance) -> str:
        kinds = [
            f"| {kind} | {', '.join(f'{n} {how}' for how, n in found['ended'].items())} | {found['median_s']:.1f} s |"
            for kind, found in self._kinds().items()
        ]
        return fault_page(
            "load",
            setting,
            made,
            faults=self.faults(),
            rows=self._rows(),
            note=[
                "Each tenant's canary, 12 random hexadecimal digits, stands in all that he sends; 8 of another's",
                "anywhere in an answer, its head included, are a crossing. /health is asked by a process of its own",
                "over new connections, timed from the moment at which it was to be asked. Memory is what is resident.",
            ],
            kinds=[
                "| kind of request | ended | median |",
                "| --- | --- | --- |",
                *kinds,
            ],
        )

    def write(self, folder: Path, setting: dict[str, Any], made: Provenance) -> None:
        """Write result.json and result.md into the folder."""
        write_result(self.as_object(setting, made), folder)
        (folder / "result.md").write_text(self.markdown(setting, made), encoding="utf-8")

    def _rows(self) -> list[tuple[str, str]]:
        health = self.health_ms()
        crossed, own = sum(bool(one.crossed) for one in self.outcomes), sum(one.has_own for one in self.outcomes)
        rows = [
            ("requests", f"{len(self.outcomes)} by {self.clients} clients in {self.seconds:.0f} s"),
            ("kill -9 of the engine", str(len(self.kills))),
            *((name, str(count)) for name, count in self._counts().items()),
            *((f"told {status}, and came again", f"{n} times") for status, n in self._turned_away().items()),
            ("answers with another tenant's canary", f"{crossed}; with the own one {own}"),
            ("/health", ", ".join(f"{name} {percentile(health, at):.0f} ms" for name, at in _SHARES.items())),
        ]
        rows += [
            (f"memory of the {name}", f"{second / MIB:.1f} MiB in the second quarter, {last / MIB:.1f} in the last")
            for name, (second, last) in self.memory().items()
        ]
        for name in ("server_descriptors", "engine_descriptors", "processes"):
            told = f"{getattr(self.before, name)} at rest before, {getattr(self.after, name)} after"
            rows.append((name.replace("_", " "), told))
        return rows

    def _counts(self) -> dict[str, int]:
        found = Counter(outcome.ended for outcome in self.outcomes)
        return {str(how): found[how] for how in Ended if found[how] or how in (Ended.WRONG, Ended.UNANSWERED)}

    def _turned_away(self) -> dict[int, int]:
        return dict(sorted(Counter(status for one in self.outcomes for status in one.turned_away).items()))

    def _kinds(self) -> dict[str, dict[str, Any]]:
        found: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            found.setdefault(outcome.kind, []).append(outcome)
        return {
            kind: {
                "ended": dict(Counter(str(one.ended) for one in found[kind]).most_common()),
                "median_s": round(median(one.seconds for one in found[kind]), 2),
            }
            for kind in sorted(found)
        }


_SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "most": 1.0}


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share does not exceed; inf where there is none."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else float("inf")


def _quarters(values: Sequence[float]) -> tuple[float, float]:
    size = len(values) // 4
    return median(values[size : 2 * size]), median(values[-size:])
