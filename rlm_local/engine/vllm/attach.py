"""A client of a server that is already running: vLLM, or a router in front of several. Probed, and not watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import httpx

from rlm_local.config import is_server_url
from rlm_local.engine.client import served_models
from rlm_local.engine.vllm.client import VllmClient
from rlm_local.engine.vllm.probe import probe
from rlm_local.errors import ConfigError, EngineRefused, EngineUnavailable
from rlm_local.types import Completion, JsonObject, Reply

T = TypeVar("T")
C = TypeVar("C", bound=VllmClient)


class AttachedClient(VllmClient):
    """A client of a server that somebody else restarts: what failed because it was away is asked once more.

    What it is asked is computed anew, so nothing is done twice; a stream whose first piece has come is not begun again.
    """

    pause_s = 1.0  # before it is asked how it is, and between two such questions
    away_s = 120.0  # for a restart by whoever watches it; a run's own seconds may end before

    async def complete(self, completion: Completion) -> Reply:
        """See ports.Engine."""
        return await self._once_more(lambda: super(AttachedClient, self).complete(completion))

    async def count_tokens(self, text: str) -> int:
        """See ports.Engine."""
        return await self._once_more(lambda: super(AttachedClient, self).count_tokens(text))

    async def chat(self, body: JsonObject) -> JsonObject:
        """See ports.ChatEngine."""
        return await self._once_more(lambda: super(AttachedClient, self).chat(body))

    @asynccontextmanager
    async def chat_stream(self, body: JsonObject) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """See ports.ChatEngine."""
        async with AsyncExitStack() as opened:
            stream = super().chat_stream
            yield await self._once_more(lambda: opened.enter_async_context(stream(body)))

    async def _once_more(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except EngineUnavailable:
            if not await self._is_back():
                raise
        return await call()

    async def _is_back(self) -> bool:
        """Wait until the server says that it can answer; False when it does not in `away_s`.

        One that has no /health, or keeps it to others, is there when it says so.
        """
        try:
            async with asyncio.timeout(self.away_s):
                while True:
                    await asyncio.sleep(self.pause_s)
                    if 0 < await self._health() < httpx.codes.INTERNAL_SERVER_ERROR:
                        return True
        except TimeoutError:
            return False


async def connect(
    model: str,
    *,
    dialect: str,
    kind: type[C],
    socket: Path | None = None,
    base_url: str = "http://engine",
    key: str = "",
) -> C:
    """Return a client, of this kind, of the server behind a unix socket or a URL, which was asked what it honours.

    Raises EngineUnavailable when nobody answers, EngineRefused when `model` is not served there or a reply does not
    keep its grammar.
    """
    client = await kind.connect(model, socket=socket, base_url=base_url, grammar_dialect=dialect, key=key)
    try:
        client.notes = (await probe(client)).lines()
    except BaseException:
        await client.close()
        raise
    return client


async def attach(url: str, names: Sequence[str], *, dialect: str, key: str = "") -> AttachedClient:
    """Return a client of the server at a URL, with or without its `/v1`, for the first of `names` that it serves."""
    base = base_of(url)
    try:
        served = await served_models(base, key=key)
    except EngineUnavailable as error:
        raise EngineUnavailable(f"{base}: {error}", hint="start a server there, or correct the URL") from error
    known = {name.lower(): name for name in served}
    found = next((known[name.lower()] for name in names if name.lower() in known), None)
    if found is None:
        raise EngineRefused(
            f"the engine at {base} serves {', '.join(served) or 'no model'}, not {names[0]}",
            hint=f"start it with --served-model-name {names[0]}, or name a card whose name or repo it serves",
        )
    return await connect(found, dialect=dialect, kind=AttachedClient, base_url=base, key=key)


def base_of(url: str) -> str:
    """Return a URL without the path of the API. Raises ConfigError for what is no URL of a server."""
    if not (is_server_url(url) and _is_taken(url)):
        raise ConfigError(f"--engine-url is {url!r}, but must be like http://host:8000", hint="correct or unset it")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _is_taken(url: str) -> bool:
    """Tell whether httpx takes this URL; it refuses some more names of hosts, a few only when they are asked for."""
    try:
        return bool(httpx.URL(url).host)
    except (httpx.InvalidURL, ValueError):
        return False
