"""Which engine a model runs on, as the user chose it, and that engine for as long as a block lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rlm_local.cards import Card, EngineKind
from rlm_local.engine.launch import LlamaEngine, launch_llama
from rlm_local.engine.vllm.attach import attach
from rlm_local.engine.vllm.client import VllmClient
from rlm_local.engine.vllm.fit import require_fit
from rlm_local.engine.vllm.gpus import installed_gpus
from rlm_local.engine.vllm.launch import DEFAULT_BACKEND, Backend, VllmEngine, VllmLaunch, VllmSettings, launch_vllm

OpenEngine: TypeAlias = LlamaEngine | VllmEngine | VllmClient


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """llama.cpp as a process of ours, vLLM as one, or a server that is already running."""

    kind: EngineKind = EngineKind.LLAMA
    vllm: VllmSettings | None = None  # goes with VLLM, unless url says where it runs already
    url: str = ""  # of an OpenAI-compatible server; it is not watched
    key: str = ""  # that this server asks for
    backend: Backend = DEFAULT_BACKEND  # of that server

    @property
    def is_attached(self) -> bool:
        return bool(self.url)


LLAMA = EngineChoice()
_HYBRID = (
    "layers of this model keep a state, so vLLM reuses less of a prompt than its length, or nothing; "
    "what it reused is measured and told, not promised"
)


@asynccontextmanager
async def open_engine(
    choice: EngineChoice,
    card: Card,
    weights: Path | None,
    *,
    adapter: Path | None = None,
    window_tokens: int,
    kv_tokens: int | None,
    runtime_dir: Path,
    log: Path | None,
) -> AsyncIterator[OpenEngine]:
    """Run the engine, or a client of one that runs, for the length of the block.

    Raises ConfigError for what does not fit the machine, EngineUnavailable when it does not come up, EngineRefused
    where it does not keep grammars.
    """
    if choice.is_attached:
        client = await attach(
            choice.url, (card.name, *card.aliases, *_repos(card)), dialect=choice.backend.dialect, key=choice.key
        )
        try:
            yield client
        finally:
            await client.close()
        return
    assert weights is not None  # only a server that runs already has its own
    if choice.vllm is not None:
        require_fit(weights, card.name, window_tokens=window_tokens, gpus=installed_gpus(), settings=choice.vllm)
        async with launch_vllm(
            VllmLaunch(choice.vllm, weights, card.name, window_tokens, runtime_dir, log, adapter)
        ) as engine:
            yield engine
        return
    async with launch_llama(
        weights, card.name, window_tokens=window_tokens, kv_tokens=kv_tokens, runtime_dir=runtime_dir, log=log
    ) as llama:
        yield llama


def _repos(card: Card) -> tuple[str, ...]:
    return tuple(weights.repo for weights in card.engines)
