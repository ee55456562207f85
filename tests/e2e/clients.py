"""Other people's clients, each in an environment of its own, at a real server: `make release-check`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import HARBOUR, MODEL, Asking, Installation

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = HARBOUR + "Boats are moored at their owners' risk. The harbour master may move them.\n" * 40
QUESTION = "What does mooring cost a night?"


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    key: str
    revoked: str  # a key that was one
    document: Path


def program(environment: str, name: str) -> Path:
    """Return a program of a client's environment; skips where there is none."""
    folder = os.environ.get(f"RLM_LOCAL_{environment.upper()}_ENV") or ROOT / f".venv-{environment}"
    path = Path(folder) / "bin" / name
    if not path.exists():
        pytest.skip(f"no {path}; `make release-check` makes it, or RLM_LOCAL_{environment.upper()}_ENV names another")
    return path


@contextmanager
def serving(installation: Installation) -> Iterator[Server]:
    """Run a real server with two keys, one of them revoked."""
    document = installation.folder / "long.txt"
    document.write_text(DOCUMENT)
    key, revoked = (_rlm_local(installation, "keys", "add", name) for name in ("ada", "bob"))
    listed = _rlm_local(installation, "keys", "list").split("\n")
    _rlm_local(installation, "keys", "revoke", next(line for line in listed if line.endswith("bob")).split()[0])
    command = [sys.executable, "-m", "rlm_local", "serve", "--model", MODEL, "--port", "0"]
    with Asking(command, environ=installation.environ, cwd=installation.folder) as server:
        server.wait_for("is served at ", within_s=600)
        yield Server(server.shown.partition("is served at ")[2].split()[0], key, revoked, document)


def own_environment(**more: str) -> dict[str, str]:
    """Return an environment in which a client finds nothing of ours, nor a key of its user's."""
    ours = ("PYTHONPATH", "OPENAI_API_KEY", "OPENAI_BASE_URL")
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **more}


def seen_by(python: Path, script: str, server: Server) -> Any:
    """Return what a script beside this file, run by a client's Python, prints of what it saw."""
    words = [server.url, server.key, server.revoked, MODEL, str(server.document)]
    done = subprocess.run(
        [str(python), str(Path(__file__).parent / script), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=server.document.parent,
        env=own_environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _rlm_local(installation: Installation, *arguments: str) -> str:
    command = [sys.executable, "-m", "rlm_local", *arguments]
    done = subprocess.run(command, env=installation.environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()
