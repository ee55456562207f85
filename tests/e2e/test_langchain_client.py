"""LangChain's ChatOpenAI, unchanged, against the real server: `make release-check`."""

from __future__ import annotations

import pytest

from tests.e2e.clients import program, seen_by, serving
from tests.e2e.conftest import MODEL, Installation

pytestmark = [pytest.mark.engine, pytest.mark.jail, pytest.mark.slow]


def test_langchain_does_what_it_does_elsewhere(installation: Installation) -> None:
    python = program("langchain", "python")
    with serving(installation) as server:
        seen = seen_by(python, "langchain_client.py", server)
    assert seen["direct"].pop("finish") in ("stop", "length")
    assert seen["direct"] == {"content": True, "tokens": True, "model": MODEL}
    assert seen["stream"] == {"same": True, "pieces": True, "usage": True}
    assert seen["batch"] == [True, True, True]
    assert seen["async"]
    assert seen["structured"] in ("day", "week")
    assert set(seen["run"].values()) == {True}, seen["run"]
    assert seen["run_stream"]
    assert seen["errors"] == {
        "revoked": "AuthenticationError",
        "model": "NotFoundError",
        "tools": "BadRequestError",
    }
