"""The application: every route, and how errors are told."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp

from rlm_local import __version__
from rlm_local.errors import RlmError
from rlm_local.server.admission import Admission
from rlm_local.server.answers import usage_of
from rlm_local.server.chat import chat_routes
from rlm_local.server.contract import tell_contract
from rlm_local.server.desk import DIRECT, Desk
from rlm_local.server.docs import add_docs
from rlm_local.server.files import Files
from rlm_local.server.files_routes import files_routes
from rlm_local.server.guard import FAILED, METRICS, Guard, tenant_of
from rlm_local.server.keys import Keys
from rlm_local.server.owner import Owner, owner_routes
from rlm_local.server.problem import Problem, problem_body, problem_of, problem_of_body
from rlm_local.server.responses import responses_routes
from rlm_local.server.runs import Runs
from rlm_local.server.runs_routes import runs_routes
from rlm_local.server.start_page import add_page
from rlm_local.server.wire import Json

_GONE = 499  # what proxies log for a caller who hung up; nobody reads it
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def application(desk: Desk, keys: Keys, files: Files, runs: Runs, owner: Owner | None = None) -> ASGIApp:
    """Return the routes. Every error has OpenAI's shape: {"error": {"message", "type", "param", "code"}}.

    owner: of the server's folder, who may speak for every tenant.
    """
    app = FastAPI(
        title="rlm-local",
        version=__version__,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=Json,
    )
    started = int(time.time())

    @app.get("/health", summary="The process lives")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="Requests are answered; 503 while the model loads and once the server stops")
    async def ready() -> Response:
        told = {
            "status": desk.state,
            "model": desk.card.name,
            "runs": _places(desk.runs),
            "direct": _places(desk.direct),
        }
        return Json(told, 200 if desk.state == "ready" else 503)

    @app.get("/v1/rlm/state", summary="Its state, and the tokens of your own runs since it began")
    async def state(request: Request) -> Response:
        told = {
            "object": "rlm.state",
            "status": desk.state,
            "version": __version__,
            "models": _names(desk),
            "window_tokens": _window(desk),
            "runs": _places(desk.runs),
            "direct": _places(desk.direct),
            "usage": usage_of(desk.usage_of(tenant_of(request))),
        }
        return Json(told)

    @app.get(METRICS, summary="What was answered and what is under way, for Prometheus")
    async def metrics() -> Response:
        text = desk.metrics.text({"run": desk.runs, "direct": desk.direct})
        return Response(text, media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", summary="The model, through runs and by itself")
    async def models() -> Response:
        return Json({"object": "list", "data": [_model(desk, name, started) for name in _names(desk)]})

    @app.get("/v1/models/{name:path}", summary="One of them, by name or alias")
    async def model(name: str) -> Response:
        own = desk.card.name + (DIRECT if desk.is_direct(name) else "")
        return Json(_model(desk, own, started))

    app.include_router(chat_routes(desk, files))
    app.include_router(responses_routes(desk, files))
    app.include_router(files_routes(files))
    app.include_router(runs_routes(desk, runs))
    if owner is not None:
        app.include_router(owner_routes(desk, owner))
    add_docs(app)
    add_page(app)
    tell_contract(app)

    @app.exception_handler(RequestValidationError)
    async def wrong_body(_: Request, error: RequestValidationError) -> Response:
        return _told(problem_of_body(error))

    @app.exception_handler(HTTPException)
    async def problem(request: Request, error: HTTPException) -> Response:
        if not isinstance(error, Problem) and error.status_code in (404, 405):
            said = f"there is no {request.method} {request.url.path[:200]}"
            # A path's methods are routes of their own, and the error names the first one's.
            allowed = {"Allow": _methods(request)} if error.status_code == 405 else None
            error = HTTPException(error.status_code, said, allowed)
        return _told(error)

    @app.exception_handler(RlmError)
    async def failed(_: Request, error: RlmError) -> Response:
        return _told(problem_of(error))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=_GONE)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        # Told here, logged by the guard, to whom Starlette raises it again.
        return _told(HTTPException(500, FAILED))

    return Guard(app, desk.settings, keys, owner)


def _methods(request: Request) -> str:
    """Return the methods that the path of a request takes, as the header Allow lists them."""
    return ", ".join(
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    )


def _told(error: HTTPException) -> Response:
    return Json(problem_body(error), error.status_code, error.headers)


def _names(desk: Desk) -> list[str]:
    return [desk.card.name, desk.card.name + DIRECT]


def _window(desk: Desk) -> int | None:
    return desk.runtime.engine.info.window_tokens if desk.state == "ready" else None


def _places(kind: Admission) -> dict[str, int]:
    return {"running": kind.running, "waiting": kind.waiting, "most": kind.slots}


def _model(desk: Desk, name: str, started: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": started,
        "owned_by": "rlm-local",
        "max_model_len": _window(desk) if name.endswith(DIRECT) else None,  # a run reads documents of any length
    }
