"""Runs what is not measured yet, row by row, and writes the report anew after each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.engine.equal import EQUAL
from bench.engine.fairness import FAIRNESS
from bench.engine.full import FULL
from bench.engine.measurement import Bench, Measurement
from bench.engine.overhead import OVERHEAD
from bench.engine.report import write_report
from bench.engine.reuse import REUSE
from bench.engine.rows import Row, Rows
from bench.engine.texts import Tokenizer
from bench.engine.timing import CLASSIFY, FAN_OUT, TRACE
from bench.provenance import Provenance
from rlm_local.cards import find_card, load_cards
from rlm_local.config import home
from rlm_local.store import Store
from tools.peers import found_peers

MEASUREMENTS: dict[str, Measurement] = {
    each.name: each for each in (FAN_OUT, TRACE, CLASSIFY, REUSE, EQUAL, FAIRNESS, FULL, OVERHEAD)
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for; contestants: only those whose name holds one of these texts (or is it, after a =), or all."""

    names: Sequence[str]
    folder: Path
    data: Path
    model: str | None = None  # a card's name, instead of each measurement's own
    scale: float = 1.0
    rounds: int = 3
    minutes: float = float("inf")
    contestants: Sequence[str] = ()


def measure(plan: Plan, made: Provenance, say: Callable[[str], None]) -> bool:
    """Measure what the folder lacks; False when the time was over before the end.

    Raises ConfigError and StoreError for a model that is not there, EngineUnavailable for a server that fails.
    """
    until = time.monotonic() + plan.minutes * 60
    rows = Rows(plan.folder)
    benches: dict[str, tuple[Bench, str]] = {}
    chosen = [MEASUREMENTS[name] for name in plan.names]
    for round_ in range(1, plan.rounds + 1):
        for each in chosen:
            if round_ > 1 and not each.repeated:
                continue
            model = plan.model or each.model
            if model not in benches:
                benches[model] = _bench(plan, model)
            bench, sha256 = benches[model]
            for who in _missing(each, bench, rows, round_, plan.contestants):
                if time.monotonic() > until:
                    say("time is over; the same command goes on from here")
                    return False
                say(f"{each.name}, round {round_}: {who}")
                began = datetime.now(UTC).isoformat(timespec="seconds")
                figures = asyncio.run(each.run(bench, who))
                of_row = replace(made, began=began)
                rows.add(Row(each.name, who, round_, bench.model, sha256, plan.scale, figures, of_row))
                write_report(plan.folder, MEASUREMENTS, list(rows))
    return True


def _missing(each: Measurement, bench: Bench, rows: Rows, round_: int, wanted: Sequence[str]) -> list[str]:
    there = rows.of(each.name)
    done = {row.contestant for row in there if row.round == round_}
    return [
        who
        for who in each.contestants(bench, round_, there)
        if who not in done and (not wanted or any(_is_meant(part, who) for part in wanted))
    ]


def _is_meant(part: str, who: str) -> bool:
    return part[1:] == who if part.startswith("=") else part in who


def _bench(plan: Plan, name: str) -> tuple[Bench, str]:
    card, store = find_card(name, load_cards()), Store(home())
    weights = store.path(card, "llama")
    bench = Bench(weights, card.name, Tokenizer(weights), plan.data, plan.scale, found_peers())
    return bench, store.sha256(card, "llama")
