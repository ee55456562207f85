from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cards import Card, find_card, load_cards
from rlm_local.server.desk import Desk
from rlm_local.server.settings import Settings
from rlm_local.testing import ScriptedEngine
from tests.server.scripted import MODEL, ScriptedRuntime, Served, serving


@pytest.fixture
def card() -> Card:
    return find_card(MODEL, load_cards())


@pytest.fixture
async def serve(card: Card, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`served = await serve([replies...])`: a server for the length of the test."""
    async with AsyncExitStack() as stack:

        async def start(replies: Any = (), **settings: Any) -> Served:
            engine = replies
            if not isinstance(replies, ScriptedEngine):
                engine = ScriptedEngine(replies, window_tokens=32_000)
            desk, runtime = Desk(card, Settings(**settings)), ScriptedRuntime(card, engine)
            return await stack.enter_async_context(serving(desk, runtime, tmp_path))

        yield start
