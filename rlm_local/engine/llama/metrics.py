"""What the engine counts, as Prometheus reads it."""

from __future__ import annotations

from rlm_local.engine.llama.interrupt import Aborted, DeadlinePassed
from rlm_local.errors import EngineRefused
from rlm_local.histogram import Histogram

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_SHORT_SECONDS = (0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.005, 0.01, 0.03, 0.1, 1.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters since the process began. Written on the decode thread, read on any: a figure may be a step old."""

    def __init__(self, *, cells: int) -> None:
        self.requests = {"complete": 0, "cancelled": 0, "deadline": 0, "refused": 0, "failed": 0}
        self.prefix_queries = 0  # prompt tokens of admitted requests
        self.prefix_hits = 0  # of those, taken over from the cache
        self.computed = {"prompt": 0, "reply": 0}
        self.written = 0  # drawn tokens
        self._gauges = {"requests_waiting": 0, "requests_running": 0}
        self._gauges |= {"cells_used": 0, "cells": cells, "shelved_tokens": 0, "shelved_bytes": 0}
        self._batch = Histogram(_SIZES)
        self._seconds = {name: Histogram(_SECONDS) for name in ("prompt_step", "reply_step", "draw", "queue")}
        self._seconds |= {name: Histogram(_SHORT_SECONDS) for name in ("mask", "begin")}

    def admitted(self, prompt: int, cached: int, *, waited_s: float) -> None:
        self.prefix_queries += prompt
        self.prefix_hits += cached
        self._seconds["queue"].add(waited_s)

    def step(self, tokens: int, took_s: float, *, writing: bool) -> None:
        self.computed["reply" if writing else "prompt"] += tokens
        self._seconds["reply_step" if writing else "prompt_step"].add(took_s)

    def drew(self, sequences: int, took_s: float) -> None:
        """Note a step's draws; masks are part of their time."""
        self._batch.add(sequences)
        self._seconds["draw"].add(took_s)

    def masked(self, took_s: float) -> None:
        """Note what the grammar of one drawn token cost: its check, and the whole mask where the check failed."""
        self._seconds["mask"].add(took_s)

    def began(self, waited_s: float) -> None:
        """Note, once a request, the time from its arrival to the first step that computes some of its prompt."""
        self._seconds["begin"].add(waited_s)

    def ended(self, error: Exception | None, *, written: int) -> None:
        self.written += written
        self.requests[_outcome(error)] += 1

    def state(self, *, waiting: int, running: int, cells: int, shelved: int, shelved_bytes: int) -> None:
        self._gauges |= {"requests_waiting": waiting, "requests_running": running}
        self._gauges |= {"cells_used": cells, "shelved_tokens": shelved, "shelved_bytes": shelved_bytes}

    def text(self) -> str:
        """Return the exposition format, version 0.0.4."""
        lines = ["# TYPE rlm_engine_requests_total counter"]
        lines += [f'rlm_engine_requests_total{{outcome="{name}"}} {n}' for name, n in self.requests.items()]
        lines.append("# TYPE rlm_engine_computed_tokens_total counter")
        lines += [f'rlm_engine_computed_tokens_total{{of="{name}"}} {n}' for name, n in self.computed.items()]
        counters = {
            "prefix_cache_queries": self.prefix_queries,
            "prefix_cache_hits": self.prefix_hits,
            "generation_tokens": self.written,
        }
        for name, count in counters.items():
            lines += [f"# TYPE rlm_engine_{name}_total counter", f"rlm_engine_{name}_total {count}"]
        for name, value in self._gauges.items():
            lines += [f"# TYPE rlm_engine_{name} gauge", f"rlm_engine_{name} {value}"]
        lines += self._batch.lines("rlm_engine_batch_size")
        for name, histogram in self._seconds.items():
            lines += histogram.lines(f"rlm_engine_{name}_seconds")
        return "\n".join(lines) + "\n"


def _outcome(error: Exception | None) -> str:
    match error:
        case None:
            return "complete"
        case DeadlinePassed():
            return "deadline"
        case Aborted():
            return "cancelled"
        case EngineRefused():
            return "refused"
        case _:
            return "failed"
