"""The composition root: a model's card becomes an engine, documents become a jail, and a run ties them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from rlm_local import __version__
from rlm_local.cards import Card, find_card, load_cards
from rlm_local.config import Home
from rlm_local.controller import Ports, run_node
from rlm_local.documents import cite, join
from rlm_local.engine.launch import launch_llama
from rlm_local.errors import ConfigError
from rlm_local.events import DocumentInfo, RunStarted
from rlm_local.jail import JailSession
from rlm_local.ports import Engine, Recorder
from rlm_local.prompts import Profile, load_profile
from rlm_local.store import Store
from rlm_local.types import Answer, Document, Request

DEFAULT_WINDOW_TOKENS = 16_384  # of one request on CPU; more costs memory (28 KiB a token with 1.5B weights)
MIN_WINDOW_TOKENS = 4_096  # rules, worked turns and two observations need about 3,000


@dataclass(frozen=True, slots=True)
class Runtime:
    """A model that is loaded and ready for runs. Runs may follow each other or go side by side."""

    card: Card
    profile: Profile
    engine: Engine
    weights_sha256: str

    async def ask(self, request: Request, recorder: Recorder) -> Answer:
        """Answer one request in a jail of its own, telling the recorder all that happens.

        Raises EngineError, JailError or TraceError for what is our fault; limits end in an unconfirmed Answer.
        """
        corpus = join(request.documents)
        recorder.write(
            RunStarted(
                question=request.question,
                model=self.card.name,
                weights_sha256=self.weights_sha256,
                profile=self.profile.name,
                documents=tuple(_info(document) for document in request.documents),
                limits=request.limits,
                window_tokens=self.engine.info.window_tokens,
                version=__version__,
            )
        )
        async with await JailSession.start(corpus, request.limits) as repl:
            return await run_node(
                request,
                corpus,
                Ports(self.engine, repl, recorder),
                self.profile,
                sampling=self.card.sampling,
                cite=partial(cite, corpus=corpus, question=request.question),
            )


@asynccontextmanager
async def open_runtime(model: str, home: Home, *, window_tokens: int | None = None) -> AsyncIterator[Runtime]:
    """Start the engine of `model` and yield a Runtime; stop the engine on the way out.

    model: a card's name or alias. window_tokens: prompt + completion of one request.
    Raises ConfigError for an unknown model or a window that it does not have, StoreError when its weights are
    not pulled, EngineUnavailable when the engine does not come up.
    """
    card = find_card(model, load_cards())
    window = window_tokens or min(DEFAULT_WINDOW_TOKENS, card.context_tokens)
    if not MIN_WINDOW_TOKENS <= window <= card.context_tokens:
        raise ConfigError(
            f"a window of {window} tokens is not possible with {card.name}; "
            f"it takes {MIN_WINDOW_TOKENS}..{card.context_tokens}"
        )
    store = Store(home)
    weights = store.path(card, "llama")
    async with launch_llama(weights, card.name, window_tokens=window, runtime_dir=home.runtime) as engine:
        yield Runtime(card, load_profile(card.profile), engine, store.sha256(card, "llama"))


def _info(document: Document) -> DocumentInfo:
    digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
    return DocumentInfo(document.name, len(document.text), digest)
