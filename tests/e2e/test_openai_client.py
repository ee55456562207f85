"""The official `openai` client, unchanged, against the real server: `make release-check`."""

from __future__ import annotations

import pytest

from tests.e2e.clients import program, seen_by, serving
from tests.e2e.conftest import MODEL, Installation

pytestmark = [pytest.mark.engine, pytest.mark.jail, pytest.mark.slow]


def test_the_official_client_does_what_it_does_elsewhere(installation: Installation) -> None:
    python = program("openai", "python")
    with serving(installation) as server:
        seen = seen_by(python, "openai_client.py", server)
        size = server.document.stat().st_size
    assert seen["models"] == [MODEL, f"{MODEL}:direct"]
    assert seen["model"] == MODEL
    assert seen["file"] == ["file", size, "long.txt"]
    assert seen["listed"]
    assert seen["retrieved"]
    assert seen["content"]
    assert seen["deleted"]
    assert seen["whole"].pop("finish") in ("stop", "length")
    assert set(seen["whole"].values()) == {True}, seen["whole"]
    assert seen["stream"].pop("finish") in ("stop", "length")
    assert set(seen["stream"].values()) == {True}, seen["stream"]
    assert seen["structured"] == ["unit"]
    assert seen["direct_stream"]
    assert seen["response"].pop("status") in ("completed", "incomplete")
    assert set(seen["response"].values()) == {True}, seen["response"]
    assert set(seen["response_stream"].values()) == {True}, seen["response_stream"]
    assert seen["response_structured"] == ["unit"]
    assert seen["response_direct_stream"]
    assert seen["errors"] == {
        "400 response kept": "BadRequestError",
        "400 response before": "BadRequestError",
        "404 response": "NotFoundError",
        "400 unknown field": "BadRequestError",
        "400 tools": "BadRequestError",
        "401 wrong": "AuthenticationError",
        "401 revoked": "AuthenticationError",
        "404 model": "NotFoundError",
        "404 file": "NotFoundError",
        "413": "APIStatusError",  # the client has no class of its own for it
    }
