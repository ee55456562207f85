"""A client of a server that is already running: vLLM, or a router in front of several. Probed, and not watched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from rlm_local.engine.client import served_models
from rlm_local.engine.vllm.client import VllmClient
from rlm_local.engine.vllm.probe import probe
from rlm_local.errors import ConfigError, EngineRefused


async def connect(
    model: str, *, dialect: str, socket: Path | None = None, base_url: str = "http://engine", key: str = ""
) -> VllmClient:
    """Return a client of the server behind a unix socket or a URL, which was asked what it honours.

    Raises EngineUnavailable when nobody answers, EngineRefused when `model` is not served there or a reply does not
    keep its grammar.
    """
    client = await VllmClient.connect(model, socket=socket, base_url=base_url, grammar_dialect=dialect, key=key)
    try:
        client.notes = (await probe(client)).lines()
    except BaseException:
        await client.close()
        raise
    return client


async def attach(url: str, names: Sequence[str], *, dialect: str, key: str = "") -> VllmClient:
    """Return a client of the server at a URL, with or without its `/v1`, for the first of `names` that it serves."""
    base = base_of(url)
    served = await served_models(base, key=key)
    known = {name.lower(): name for name in served}
    found = next((known[name.lower()] for name in names if name.lower() in known), None)
    if found is None:
        raise EngineRefused(
            f"the engine at {base} serves {', '.join(served) or 'no model'}, not {names[0]}",
            hint=f"start it with --served-model-name {names[0]}, or name a card whose name or repo it serves",
        )
    return await connect(found, dialect=dialect, base_url=base, key=key)


def base_of(url: str) -> str:
    """Return a URL without the path of the API. Raises ConfigError for what is no URL of a server."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"--engine-url is {url!r}, but must be like http://host:8000")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
