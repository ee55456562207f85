"""The official `openai` client, unchanged, against the real server: `make release-check`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import HARBOUR, MODEL, Asking, Installation

pytestmark = [pytest.mark.engine, pytest.mark.jail, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
PYTHON = Path(os.environ.get("RLM_LOCAL_OPENAI_PYTHON") or ROOT / ".venv-openai" / "bin" / "python")


@pytest.fixture
def openai_python() -> Path:
    """The interpreter of the environment that holds the client; skips where there is none."""
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON}; `make release-check` makes it, or RLM_LOCAL_OPENAI_PYTHON names one")
    return PYTHON


def test_the_official_client_does_what_it_does_elsewhere(installation: Installation, openai_python: Path) -> None:
    document = installation.folder / "long.txt"
    document.write_text(HARBOUR + "Boats are moored at their owners' risk. The harbour master may move them.\n" * 40)
    key, revoked = (rlm_local(installation, "keys", "add", name) for name in ("ada", "bob"))
    listed = rlm_local(installation, "keys", "list").split("\n")
    rlm_local(installation, "keys", "revoke", next(line for line in listed if line.endswith("bob")).split()[0])
    command = [sys.executable, "-m", "rlm_local", "serve", "--model", MODEL, "--port", "0"]
    with Asking(command, environ=installation.environ, cwd=installation.folder) as server:
        server.wait_for("is served at ", within_s=600)
        url = server.shown.partition("is served at ")[2].split()[0]
        script = Path(__file__).parent / "openai_client.py"
        done = subprocess.run(
            [str(openai_python), str(script), url, key, revoked, MODEL, str(document)],
            capture_output=True,
            text=True,
            check=False,
            cwd=installation.folder,
            env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OPENAI_API_KEY")},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        seen = json.loads(done.stdout)
    assert seen["models"] == [MODEL, f"{MODEL}:direct"]
    assert seen["model"] == MODEL
    assert seen["file"] == ["file", document.stat().st_size, "long.txt"]
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


def rlm_local(installation: Installation, *arguments: str) -> str:
    command = [sys.executable, "-m", "rlm_local", *arguments]
    done = subprocess.run(command, env=installation.environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()
