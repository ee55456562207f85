"""What a running CPU engine counts, by name."""

from __future__ import annotations

from pathlib import Path

import httpx


async def counters(engine: httpx.AsyncClient) -> dict[str, float]:
    """Return every sample of its /metrics without the engine's prefix; a name with its labels, as Prometheus has it."""
    lines = (await engine.get("/metrics")).text.splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name.removeprefix("rlm_engine_"): float(value) for name, _, value in samples}


async def counters_behind(socket: Path) -> dict[str, float]:
    """Return those of the engine that listens at a socket. Raises httpx.TransportError where there is none."""
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as engine:
        return await counters(engine)
