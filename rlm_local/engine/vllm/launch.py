"""vLLM as a process of ours: its command line, its environment, and for how long it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from rlm_local.engine.process import quiet_environment
from rlm_local.engine.supervised import Running, SupervisedEngine
from rlm_local.engine.vllm.attach import connect
from rlm_local.engine.vllm.client import VllmClient
from rlm_local.errors import ConfigError

STOP_S = 10.0  # from SIGTERM until the engine is killed
# Ours to say: where it listens, what it serves, and what runs rely on. Without grammars and an exact prefix cache there
# is no run; a draft model and a grammar together end replies in errors (vLLM 53181, 44006, 53777).
_OURS = (
    *("--host", "--port", "--uds", "--api-key", "--model", "--served-model-name", "--max-model-len", "--headless"),
    *("--enable-prefix-caching", "--no-enable-prefix-caching", "--enable-prompt-tokens-details", "--config"),
    *("--no-enable-prompt-tokens-details", "--generation-config", "--structured-outputs-config", "--trust-remote-code"),
    *("--speculative-config", "--spec-method", "--spec-model", "--spec-tokens", "--enable-lora", "--lora-modules"),
)


class Backend(StrEnum):
    """What makes vLLM's token masks; one for all requests of a server."""

    XGRAMMAR = "xgrammar"
    GUIDANCE = "guidance"  # llguidance, as in our own CPU engine

    @property
    def dialect(self) -> str:
        """Return what it reads, as EngineInfo.grammar_dialect names it."""
        return "ebnf" if self is Backend.XGRAMMAR else "lark"


# A whole mask of the lexical turn grammar takes xgrammar 0.2.8 a quarter to half a second of processor time, and all
# replies of a server wait for it. Of the larger Python grammar llguidance makes one in 1.3 ms (151,936 tokens).
DEFAULT_BACKEND = Backend.GUIDANCE


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """How vLLM is started where that is the user's to say."""

    python: Path  # of the environment that vLLM is in; never ours
    arguments: tuple[str, ...] = ()  # of `vllm serve`, passed on as they are: parallelism, quantisation, memory
    environment: Mapping[str, str] = field(default_factory=dict)
    backend: Backend = DEFAULT_BACKEND

    def __post_init__(self) -> None:
        if self.python.parent == Path(sys.executable).parent:
            raise ConfigError(
                f"{self.python} is rlm-local's own interpreter; vLLM's pins are many",
                hint="keep vLLM in an environment of its own and name its python",
            )
        if not os.access(self.python, os.X_OK):
            raise ConfigError(
                f"no interpreter of vLLM at {self.python}",
                hint="install vLLM into an environment of its own and name its python with --vllm-python, "
                "or run `make vllm-cpu-env`",
            )
        for argument in self.arguments:
            name = argument.partition("=")[0].partition(".")[0].replace("_", "-")
            if name in _OURS or name == "-sc":
                raise ConfigError(f"{name} is rlm-local's to say to vLLM; leave it out of the arguments passed on")


@dataclass(frozen=True, slots=True)
class VllmLaunch:
    """How one vLLM process is started. Implements engine.process.Program."""

    settings: VllmSettings
    weights: Path  # a folder of safetensors, with tokenizer and chat template
    model: str  # the name that requests use
    window_tokens: int  # prompt and reply of one request
    runtime_dir: Path
    log: Path | None = None
    adapter: Path | None = None  # a LoRA adapter's folder: then `model` names the adapter over `weights`
    warnings: tuple[str, ...] = ()  # of these weights, sentences for the user

    def argv(self, socket: Path, lifeline_fd: int) -> list[str]:
        keeper = [sys.executable, "-P", "-m", "rlm_local.engine.keeper", "--lifeline-fd", str(lifeline_fd)]
        keeper += ["--socket", str(socket), "--stop-s", str(STOP_S), "--"]
        return [*keeper, *self.serve(socket)]

    def serve(self, socket: Path) -> list[str]:
        """Return the command line of `vllm serve`."""
        # An absolute path: with the hub's switch for offline work vLLM looks any other name up in its cache.
        command = [str(self.settings.python), "-P", "-m", "vllm.entrypoints.cli.main", "serve"]
        command += [str(self.weights.resolve()), "--uds", str(socket), "--max-model-len", str(self.window_tokens)]
        command += ["--served-model-name", f"{self.model}-base" if self.adapter else self.model]
        command += ["--enable-prefix-caching", "--enable-prompt-tokens-details", "--generation-config", "vllm"]
        # Said outright: left to itself vLLM takes the backend that suits its first request, for all of them.
        command += ["--structured-outputs-config", json.dumps({"backend": self.settings.backend.value})]
        command += ["--load-format", "safetensors", "--disable-uvicorn-access-log"]
        if self.adapter is not None:
            command += ["--enable-lora", "--max-lora-rank", str(_rank(self.adapter))]
            command += ["--lora-modules", f"{self.model}={self.adapter.resolve()}"]
        return [*command, *self.settings.arguments]

    @property
    def stop_s(self) -> float:
        return STOP_S + 2.0  # the keeper's own sweep

    @property
    def crash_seen_s(self) -> float:
        return 60.0  # the API's process ends some seconds after the one that computes has died, and says 503 until then

    def environment(self) -> Mapping[str, str]:
        quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1", "VLLM_PLUGINS": ""}
        # A client that pauses between two calls must not find its connection closed.
        quiet |= {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "86400", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        return {**quiet_environment(), **quiet, **self.settings.environment}

    async def connect(self, socket: Path) -> VllmClient:
        return await connect(self.model, dialect=self.settings.backend.dialect, kind=VllmClient, socket=socket)

    def cause(self, said: Sequence[str]) -> str:
        """Return the line of a failed start that says why; vLLM's last ones say only that it failed."""
        errors = [line for line in said if "Error: " in line and "See root cause" not in line]
        return _words(errors[0]) if errors else (said[-1] if said else "")


class VllmEngine(SupervisedEngine):
    """vLLM, started and watched by us."""

    def __init__(self, launch: VllmLaunch, running: Running) -> None:
        super().__init__(launch, running)
        self._warnings = launch.warnings

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*super().warnings, *self._warnings)


@asynccontextmanager
async def launch_vllm(launch: VllmLaunch) -> AsyncIterator[VllmEngine]:
    """Run vLLM for the length of the block.

    Raises EngineRefused where it does not keep grammars, EngineUnavailable when the process does not come up.
    """
    engine = VllmEngine(launch, await Running.start(launch))
    try:
        yield engine
    finally:
        await engine.close()


def _rank(adapter: Path) -> int:
    try:
        rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{adapter} is no LoRA adapter: its adapter_config.json names no rank: {error}") from error
    # vLLM takes these ranks only.
    return next((one for one in (8, 16, 32, 64, 128, 256, 320, 512) if one >= rank), int(rank))


def _words(line: str) -> str:
    """Return a log line without process and place."""
    return line.rpartition("] ")[2].strip()
