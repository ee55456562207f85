"""A client of a vLLM server that is already running: probed, and not watched."""

from __future__ import annotations

from pathlib import Path

from rlm_local.engine.vllm.client import VllmClient
from rlm_local.engine.vllm.probe import probe


async def connect(model: str, *, socket: Path | None = None, base_url: str = "http://engine") -> VllmClient:
    """Return a client of the server behind a unix socket or a URL, which was asked what it honours.

    Raises EngineUnavailable when nobody answers, EngineRefused when `model` is not served there or a reply does not
    keep its grammar.
    """
    client = await VllmClient.connect(model, socket=socket, base_url=base_url, grammar_dialect="ebnf")
    try:
        client.notes = (await probe(client)).lines()
    except BaseException:
        await client.close()
        raise
    return client
