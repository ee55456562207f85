"""Runs of a server under test: begun, looked at and followed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tests.server.scripted import LEASE, PausedEngine, Served, until

Serve = Callable[..., Any]
RUNS = "/v1/rlm/runs"
BODY = {"question": "How long is the notice period?", "documents": [{"name": "lease.txt", "text": LEASE}]}


async def start(served: Served, *, status: int = 202, **fields: Any) -> dict[str, Any]:
    response = await served.client.post(RUNS, json=BODY | fields)
    assert response.status_code == status, response.text
    return response.json()


async def look(served: Served, run: dict[str, Any]) -> dict[str, Any]:
    return (await served.client.get(f"{RUNS}/{run['id']}")).json()


async def ended(served: Served, run: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(120):
        while (run := await look(served, run))["ended_at"] is None:  # noqa: ASYNC110 it is told over HTTP
            await asyncio.sleep(0.01)
    return run


async def follow(
    served: Served, run: dict[str, Any], *, begun: asyncio.Event | None = None, **headers: str
) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a run to its end, each with its name. begun: is set once they come."""
    found, name = [], ""
    async with served.client.stream("GET", f"{RUNS}/{run['id']}/events", headers=headers) as response:
        if begun is not None:
            begun.set()
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))))
    return found


async def followed_while_held(
    served: Served, engine: PausedEngine
) -> tuple[dict[str, Any], asyncio.Task[list[tuple[str, dict[str, Any]]]]]:
    """Return a run whose engine is held, and who reads its events meanwhile."""
    made = await start(served)
    await until(lambda: engine.held)
    begun = asyncio.Event()
    reading = asyncio.create_task(follow(served, made, begun=begun))
    await begun.wait()
    return made, reading
