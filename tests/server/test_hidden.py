"""What is another's answers as what is not there: the same status, headers and body on every route that takes an id.

How long it takes is measured by `python -m bench hidden`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.server.scripted import FINAL, LEASE, LOOK, MODEL, Served, chat_body, until

Serve = Callable[..., Any]
RUNS = "/v1/rlm/runs"
# Where an id goes in, and what is sent with it.
ROUTES: list[tuple[str, str, Callable[[str], Any]]] = [
    *((method, f"/v1/files/{{id}}{rest}", lambda _: None) for method, rest in (("GET", ""), ("DELETE", ""))),
    ("GET", "/v1/files/{id}/content", lambda _: None),
    ("GET", "/v1/files?after={id}", lambda _: None),
    ("POST", RUNS, lambda id_of: {"question": "How long?", "documents": [{"file_id": id_of}]}),
    ("POST", "/v1/chat/completions", lambda id_of: chat_body(messages=[asking(id_of)])),
    ("POST", "/v1/responses", lambda id_of: {"model": MODEL, "input": [bringing(id_of)]}),
    *((method, f"{RUNS}/{{id}}", lambda _: None) for method in ("GET", "DELETE")),
    ("GET", f"{RUNS}/{{id}}/events", lambda _: None),
    ("POST", f"{RUNS}/{{id}}/cancel", lambda _: None),
    ("GET", f"{RUNS}?after={{id}}", lambda _: None),
]


def asking(file_id: str) -> dict[str, Any]:
    parts = [{"type": "file", "file": {"file_id": file_id}}, {"type": "text", "text": "How long?"}]
    return {"role": "user", "content": parts}


def bringing(file_id: str) -> dict[str, Any]:
    parts = [{"type": "input_file", "file_id": file_id}, {"type": "input_text", "text": "How long?"}]
    return {"role": "user", "content": parts}


async def answer(served: Served, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
    """Return all that a caller can see of an answer, but for the time of day."""
    response = await served.client.request(method, path, json=body, headers=headers)
    told = sorted((name, value) for name, value in response.headers.items() if name != "date")
    return response.status_code, told, response.content


async def test_anothers_file_and_run_are_told_as_those_that_never_were(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    ada, bob = [{"Authorization": f"Bearer {served.keys.add(name, None)[1]}"} for name in ("ada", "bob")]
    form = {"data": {"purpose": "user_data"}, "files": {"file": ("lease.txt", LEASE)}}
    file = (await served.client.post("/v1/files", headers=ada, **form)).json()["id"]
    body = {"question": "How long?", "documents": [{"file_id": file}]}
    run = (await served.client.post(RUNS, json=body, headers=ada)).json()["id"]
    await until(lambda: served.desk.runs.running == 0)
    for method, path, body_of in ROUTES:
        kind, there = ("file", file) if "files" in path or body_of("") else ("run", run)
        never = f"{kind}-{'0' * 24}"
        one = await answer(served, method, path.format(id=there), body_of(there), bob)
        other = await answer(served, method, path.format(id=never), body_of(never), bob)
        assert one == other, (method, path)
        assert one[0] == 404, (method, path)
    assert len(served.runtime.asked) == 1  # of ada's, which is still there
    for path in (f"/v1/files/{file}", f"{RUNS}/{run}"):
        assert (await served.client.get(path, headers=ada)).status_code == 200


async def test_no_key_an_unknown_one_and_a_revoked_one_are_told_the_same(serve: Serve) -> None:
    served = await serve()
    key, secret = served.keys.add("ada", None)
    served.keys.revoke(key.id)
    callers: list[dict[str, str]] = [{}, *({"Authorization": f"Bearer {told}"} for told in ("rlm-none", secret))]
    for method, path, body in (
        ("GET", "/v1/models", None),
        ("GET", "/v1/files/file-0", None),
        ("GET", f"{RUNS}/run-0", None),
        ("POST", "/v1/chat/completions", chat_body(model=f"{MODEL}:direct")),
        ("GET", "/nowhere", None),
    ):
        one, *others = [await answer(served, method, path, body, headers) for headers in callers]
        assert one[0] == 401
        assert others == [one, one]
