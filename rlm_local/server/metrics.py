"""What the server counts, as Prometheus reads it. No tenant, no key, no file is a label."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from rlm_local.histogram import Histogram
from rlm_local.server.admission import Admission
from rlm_local.types import Answer

_SECONDS = (1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Metrics:
    """Counters since the process began."""

    def __init__(self) -> None:
        self._runs = {"confirmed": 0, "unconfirmed": 0, "failed": 0, "cancelled": 0}
        self._tokens = {"prompt": 0, "cached": 0, "completion": 0}
        self._subcalls = 0
        self._seconds = Histogram(_SECONDS)

    async def counted(self, run: Awaitable[Answer]) -> Answer:
        """Await a run and count how it ended and what it took."""
        try:
            answer = await run
        except BaseException as error:
            self._runs["cancelled" if isinstance(error, asyncio.CancelledError) else "failed"] += 1
            raise
        self._runs["confirmed" if answer.confirmed else "unconfirmed"] += 1
        self._tokens["prompt"] += answer.usage.prompt_tokens
        self._tokens["cached"] += answer.usage.cached_tokens
        self._tokens["completion"] += answer.usage.completion_tokens
        self._subcalls += answer.subcalls
        self._seconds.add(answer.wall_s)
        return answer

    def text(self, places: dict[str, Admission]) -> str:
        """Return the exposition format, version 0.0.4. places: by the kind of work."""
        lines = ["# TYPE rlm_runs_total counter"]
        lines += [f'rlm_runs_total{{outcome="{name}"}} {count}' for name, count in self._runs.items()]
        lines.append("# TYPE rlm_run_tokens_total counter")
        lines += [f'rlm_run_tokens_total{{of="{name}"}} {count}' for name, count in self._tokens.items()]
        lines += ["# TYPE rlm_run_subcalls_total counter", f"rlm_run_subcalls_total {self._subcalls}"]
        lines += self._seconds.lines("rlm_run_seconds")
        for name, of in (("running", "running"), ("waiting", "waiting"), ("places", "slots"), ("refused", "refused")):
            metric, kind = (f"rlm_{name}", "gauge") if name != "refused" else ("rlm_refused_total", "counter")
            lines.append(f"# TYPE {metric} {kind}")
            lines += [f'{metric}{{work="{work}"}} {getattr(place, of)}' for work, place in places.items()]
        return "\n".join(lines) + "\n"
