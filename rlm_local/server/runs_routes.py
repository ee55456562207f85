"""/v1/rlm/runs: start, look, follow, cancel, forget."""

from __future__ import annotations

import asyncio
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from rlm_local.server.desk import Desk
from rlm_local.server.guard import caller_of, tenant_of
from rlm_local.server.problem import Problem
from rlm_local.server.run_request import RunBody
from rlm_local.server.run_rows import RunState
from rlm_local.server.runs import Runs
from rlm_local.server.wire import EventStream, Json

# A caller who got no answer asks again under the same name, and starts no second run.
RequestName: TypeAlias = Annotated[str | None, Header(min_length=1, max_length=200, pattern="^[!-~]+$")]


class RunPage(BaseModel):
    model_config = ConfigDict(extra="forbid")  # and not strict: in a query everything is text

    limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    after: str | None = None
    status: RunState | None = None


def runs_routes(desk: Desk, runs: Runs) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/rlm/runs", summary="Start a run, which goes on whether you stay or not", status_code=202)
    async def start(body: RunBody, request: Request, idempotency_key: RequestName = None) -> Response:
        if body.model is not None and desk.is_direct(body.model):
            raise Problem(400, f"a run is asked of {desk.card.name}, not of the engine itself", param="model")
        _ = desk.runtime  # none is accepted while the model loads, nor once the server stops
        made = runs.start(tenant_of(request), body, idempotency_key, caller_of(request))
        return Json(made.as_object(), 202)

    @router.get("/v1/rlm/runs", summary="Your runs, the newest first")
    async def listed(request: Request, page: Annotated[RunPage, Query()]) -> Response:
        most = page.limit + 1  # one more tells whether there are more
        found = runs.page(tenant_of(request), most, after=page.after, state=page.status)
        shown = [run.as_object() for run in found[: page.limit]]
        return Json({"object": "list", "data": shown, "has_more": len(found) > len(shown)})

    @router.get("/v1/rlm/runs/{run_id}", summary="A run, with its answer and citations once it has ended")
    async def look(request: Request, run_id: str) -> Response:
        return Json(runs.find(tenant_of(request), run_id).as_object())

    @router.get("/v1/rlm/runs/{run_id}/events", summary="Its events from the beginning, then as they come (SSE)")
    async def events(request: Request, run_id: str) -> Response:
        tenant = tenant_of(request)
        runs.find(tenant, run_id)
        return EventStream(runs.events(tenant, run_id, request.headers.get("last-event-id", "")))

    @router.post("/v1/rlm/runs/{run_id}/cancel", summary="End it")
    async def cancel(request: Request, run_id: str) -> Response:
        return Json((await runs.cancel(tenant_of(request), run_id)).as_object())

    @router.delete("/v1/rlm/runs/{run_id}", summary="Forget a run that has ended")
    async def delete(request: Request, run_id: str) -> Response:
        await asyncio.to_thread(runs.delete, tenant_of(request), run_id)
        return Json({"id": run_id, "object": "rlm.run", "deleted": True})

    return router
