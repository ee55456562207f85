"""What a runtime is made of, found out before anything is loaded: a card, weights, prompts, an engine's settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rlm_local.cards import Card, find_card, load_cards
from rlm_local.config import Home, engine_log
from rlm_local.config import kv_tokens as configured_kv_tokens
from rlm_local.engine.choice import LLAMA, EngineChoice
from rlm_local.engine.memory import available_bytes
from rlm_local.engine.vllm.gpus import installed_gpus
from rlm_local.engine.vllm.ways import cpu_ways
from rlm_local.errors import ConfigError, StoreError
from rlm_local.jail import NO_PACKAGES, Packages, nsjail_binary
from rlm_local.prompts import Profile, load_profile
from rlm_local.store import Store
from rlm_local.texts import text_sha256

DEFAULT_WINDOW_TOKENS = 16_384  # of one request on CPU; more costs memory (28 KiB a token with 1.5B weights)
DEFAULT_DEPTH = {"small": 1, "large": 2}  # by prompt profile; small models lose their way at depth 2
MIN_WINDOW_TOKENS = 4_096  # rules, worked turns and two observations need about 3,000


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a runtime needs and that costs no time to find."""

    card: Card
    profile: Profile
    window_tokens: int  # prompt + completion of one request
    weights: Path | None  # None: those of an engine that runs already
    weights_sha256: str  # empty where nobody told it
    sockets: Path
    kv_tokens: int | None = None  # cells that the engine keeps; None: as many as two windows, or as memory allows
    log: Path | None = None  # for the words of the engine's process
    packages: Packages = NO_PACKAGES
    engine: EngineChoice = LLAMA
    adapter: Path | None = None  # over the weights


def profile_of(card: Card, packages: Packages = NO_PACKAGES) -> Profile:
    """Return what a card's models are told, and held to. packages: that their code can import."""
    imports = None if card.imports is None else (*card.imports, *(f"{module}.*" for module in packages.modules))
    return replace(load_profile(card.profile, card.protocol, packages.modules), imports=imports)


def default_depth(profile: Profile) -> int:
    """Return the levels below the root where nobody says otherwise."""
    return DEFAULT_DEPTH[profile.name.partition("/")[0]]


def default_window_tokens(card: Card) -> int:
    """Return prompt + completion of one request where nobody says otherwise."""
    return min(DEFAULT_WINDOW_TOKENS, card.context_tokens)


def plan_runtime(
    model: str,
    home: Home,
    *,
    window_tokens: int | None = None,
    kv_tokens: int | None = None,
    needs_jail: bool = True,
    packages: Packages = NO_PACKAGES,
    engine: EngineChoice = LLAMA,
) -> Plan:
    """Return how to run `model`, so that mistakes are told before anything is loaded or read.

    model: a card's name or alias. window_tokens: prompt + completion of one request. kv_tokens: cells that the
    engine keeps in memory; by default what RLM_LOCAL_KV_TOKENS says, else see engine.memory. needs_jail: code will
    be run, which typed calls from the command line do without. packages: what that code may import.
    Raises ConfigError for an unknown model, a window that it does not have or an unusable RLM_LOCAL_* variable,
    StoreError when its weights are not pulled, JailUnavailable when there is no nsjail to start.
    """
    card = find_card(model, load_cards())
    window = default_window_tokens(card) if window_tokens is None else window_tokens
    if not MIN_WINDOW_TOKENS <= window <= card.context_tokens:
        raise ConfigError(
            f"a window of {window} tokens is not possible with {card.name}; "
            f"it takes {MIN_WINDOW_TOKENS}..{card.context_tokens}"
        )
    weights, adapter, digest = (None, None, "") if engine.is_attached else _stored(card, engine, Store(home))
    if needs_jail:
        nsjail_binary()
    cells = configured_kv_tokens() if kv_tokens is None else kv_tokens
    profile = profile_of(card, packages)
    return Plan(card, profile, window, weights, digest, home.runtime, cells, engine_log(), packages, engine, adapter)


def _stored(card: Card, engine: EngineChoice, store: Store) -> tuple[Path, Path | None, str]:
    """Return the weights, an adapter over them or None, and the hash that names both.

    Raises StoreError; where only GPUs would do, with the ways of a CPU.
    """
    try:
        path, digest = store.path(card, engine.kind), store.sha256(card, engine.kind)
        if (base := card.weights(engine.kind).base) is None:
            return path, None, digest
        under = find_card(base, load_cards())
        both = f"{store.sha256(under, engine.kind)} {digest}"
        return store.path(under, engine.kind), path, text_sha256(both)
    except StoreError as error:
        if card.vllm is None or installed_gpus():
            raise
        ways = cpu_ways(card, load_cards(), available_bytes=available_bytes())
        raise StoreError(str(error), hint=ways) from error
