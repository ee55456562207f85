"""The API's OpenAPI document: FastAPI tells what routes take, and here stands what they answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from rlm_local.server import shapes
from rlm_local.types import JsonObject

_SAID = {
    400: "What is asked for is not served, or contradicts itself; the field is named",
    401: "A key was made, and this is none that is valid",
    403: "No key was made, and the request comes from elsewhere than this machine",
    404: "There is no such thing, or it is another tenant's",
    405: "This path takes other methods",
    408: "The body did not come, or the answer not in the time that it had",
    409: "It contradicts what is there",
    413: "It is larger than this server, or this key, takes",
    415: "The body is of another kind",
    429: "The queue is full, or the key has spent what it may; Retry-After tells when to come again",
    503: "The model loads, the engine is being replaced, or the server stops; Retry-After tells when to come again",
    507: "The server's disk is full",
}
_COME_AGAIN = (429, 503)
_KEY = (401, 403)
_BODY = (400, 408, 413)
_STREAM = "text/event-stream"
_LOOK = (*_KEY, 404)
# What each route answers when all is well, and by which statuses it says no.
_ROUTES: dict[tuple[str, str], tuple[int, type[BaseModel] | str, tuple[int, ...]]] = {
    ("/health", "get"): (200, shapes.Health, (403,)),
    ("/ready", "get"): (200, shapes.Readiness, (403,)),
    ("/metrics", "get"): (200, "text/plain", _KEY),
    ("/v1/models", "get"): (200, shapes.ModelList, _KEY),
    ("/v1/models/{name}", "get"): (200, shapes.Model, _LOOK),
    ("/v1/chat/completions", "post"): (200, shapes.ChatCompletion, (*_BODY, *_LOOK, 429, 503)),
    ("/v1/responses", "post"): (200, shapes.ModelResponse, (*_BODY, *_LOOK, 429, 503)),
    ("/v1/files", "post"): (200, shapes.File, (*_BODY, *_KEY, 409, 415, 507)),
    ("/v1/files", "get"): (200, shapes.FileList, (400, *_LOOK)),
    ("/v1/files/{file_id}", "get"): (200, shapes.File, _LOOK),
    ("/v1/files/{file_id}", "delete"): (200, shapes.Deleted, _LOOK),
    ("/v1/files/{file_id}/content", "get"): (200, "application/octet-stream", _LOOK),
    ("/v1/rlm/state", "get"): (200, shapes.State, _KEY),
    ("/v1/rlm/runs", "post"): (202, shapes.Run, (*_BODY, *_LOOK, 409, 429, 503)),
    ("/v1/rlm/runs", "get"): (200, shapes.RunList, (400, *_LOOK)),
    ("/v1/rlm/runs/{run_id}", "get"): (200, shapes.Run, _LOOK),
    ("/v1/rlm/runs/{run_id}", "delete"): (200, shapes.Deleted, (*_LOOK, 409)),
    ("/v1/rlm/runs/{run_id}/events", "get"): (200, _STREAM, _LOOK),
    ("/v1/rlm/runs/{run_id}/cancel", "post"): (200, shapes.Run, _LOOK),
}
_STREAMED = ("/v1/chat/completions", "/v1/responses")  # where the request says so
_NOT_OURS = ("HTTPValidationError", "ValidationError")  # of FastAPI's own answers, which are not given here


def tell_contract(app: FastAPI) -> None:
    """Have `app` serve this document in place of FastAPI's own."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = contract(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI has it done


def contract(app: FastAPI) -> dict[str, Any]:
    """Return the document. Raises LookupError for a route of which nothing is told here."""
    told = get_openapi(title=app.title, version=app.version, routes=app.routes)
    models: list[type[BaseModel]] = [shapes.Error]
    models += [model for _, model, _ in _ROUTES.values() if not isinstance(model, str)]
    _, made = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    parts = told.setdefault("components", {})
    schemas = {name: schema for name, schema in parts.get("schemas", {}).items() if name not in _NOT_OURS}
    parts["schemas"] = dict(sorted({**schemas, **made["$defs"]}.items()))
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    told["security"] = [{"key": []}, {}]  # none, where no key was made
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            operation["responses"] = _responses(path, method)
    return told


def _responses(path: str, method: str) -> JsonObject:
    status, model, refusals = _ROUTES[path, method]
    content: JsonObject = _other(model) if isinstance(model, str) else _json(model)
    if path in _STREAMED:
        content |= _other(_STREAM)
    responses: JsonObject = {str(status): {"description": "As asked", "content": content}}
    if path == "/ready":
        responses["503"] = {"description": "It does not answer requests", "content": _json(shapes.Readiness)}
    for refusal in sorted(refusals):
        answer: JsonObject = {"description": _SAID[refusal], "content": _json(shapes.Error)}
        if refusal in _COME_AGAIN:
            answer["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
        responses[str(refusal)] = answer
    return responses


def _other(kind: str) -> JsonObject:
    # OpenAPI 3.1 has no words for what one event of a stream looks like, and a schema would be read as that.
    return {kind: {} if kind == _STREAM else {"schema": {"type": "string"}}}


def _json(model: type[BaseModel]) -> JsonObject:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
