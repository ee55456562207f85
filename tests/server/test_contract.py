"""The OpenAPI document: every route is told, and what they answer is what is told. `make fuzz-api` looks for more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from rlm_local.server import shapes
from tests.server.scripted import FINAL, LEASE, LOOK, MODEL, chat_body, until

Serve = Callable[..., Any]
RUNS = "/v1/rlm/runs"


async def document(served: Any) -> dict[str, Any]:
    return (await served.client.get("/openapi.json")).json()


async def test_every_route_tells_what_it_answers_and_nothing_of_fastapis_own_errors(serve: Serve) -> None:
    told = await document(await serve())
    assert "HTTPValidationError" not in json.dumps(told)
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            assert "422" not in answers, (method, path)
            assert "403" in answers, (method, path)
            for status, answer in answers.items():
                for kind, content in answer["content"].items():
                    if kind == "application/json":
                        name = content["schema"]["$ref"].rpartition("/")[2]
                        assert name in told["components"]["schemas"], (method, path, status)


@pytest.mark.parametrize("state", ["ended", "refused"])
async def test_what_is_answered_has_the_shape_that_is_told(serve: Serve, state: str) -> None:
    served = await serve([LOOK, FINAL, LOOK, FINAL, "fine"])
    client = served.client
    form: dict[str, Any] = {"data": {"purpose": "user_data"}, "files": {"file": ("lease.txt", LEASE)}}
    file = (await client.post("/v1/files", **form)).json()
    body = {"question": "How long?", "documents": [{"file_id": file["id"]}]}
    run = (await client.post(RUNS, json=body)).json()
    await until(lambda: served.desk.runs.running == 0)
    asked: list[tuple[str, str, Any, type[BaseModel]]] = [
        ("GET", "/health", None, shapes.Health),
        ("GET", "/ready", None, shapes.Readiness),
        ("GET", "/v1/models", None, shapes.ModelList),
        ("GET", f"/v1/models/{MODEL}", None, shapes.Model),
        ("GET", "/v1/files", None, shapes.FileList),
        ("GET", f"/v1/files/{file['id']}", None, shapes.File),
        ("POST", "/v1/chat/completions", chat_body(), shapes.ChatCompletion),
        ("POST", "/v1/responses", {"model": f"{MODEL}:direct", "input": "Hi"}, shapes.ModelResponse),
        ("GET", "/v1/rlm/state", None, shapes.State),
        ("GET", RUNS, None, shapes.RunList),
        ("GET", f"{RUNS}/{run['id']}", None, shapes.Run),
        ("POST", f"{RUNS}/{run['id']}/cancel", None, shapes.Run),
        ("DELETE", f"{RUNS}/{run['id']}", None, shapes.Deleted),
        ("DELETE", f"/v1/files/{file['id']}", None, shapes.Deleted),
    ]
    refused: list[tuple[str, str, Any]] = [
        ("GET", "/v1/models/gpt-4o", None),
        ("POST", "/v1/chat/completions", {"colour": "red"}),
        ("GET", "/v1/files?limit=0", None),
        ("GET", f"{RUNS}/run-0", None),
        ("POST", RUNS, {"question": "How long?"}),
    ]
    if state == "refused":
        asked = [(method, path, sent, shapes.Error) for method, path, sent in refused]
    told = await document(served)
    for method, path, sent, shape in asked:
        response = await client.request(method, path, json=sent)
        shape.model_validate_json(response.content, strict=True)
        assert f"#/components/schemas/{shape.__name__}" in json.dumps(told["paths"]), path
        assert (response.status_code < 300) is (state == "ended"), path
