"""A server on this machine, as commands find it and speak to it for the owner of its folder."""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from rlm_local.errors import RlmError
from rlm_local.server.presence import PROOF_PATH, TENANT_HEADER, Presence, proof_of, read_presence

_SILENT_S = 120.0  # a server at work says every 15 s that it is
_PROBE_S = 5.0
_LOST = "the server has gone; a run that it had accepted goes on when it is started again"


class ServerRefused(RlmError):
    """The server answered that it will not do this."""


class NoServer(RlmError):
    """No server runs there."""

    def __init__(self, folder: Path, hint: str) -> None:
        super().__init__(f"no server runs that keeps its records in {folder}", hint=hint)


class Served:
    """A running server that has proved to be the one of its folder."""

    def __init__(self, presence: Presence, client: httpx.AsyncClient) -> None:
        self.presence = presence
        self._client = client

    async def call(self, method: str, path: str, body: object = None, *, tenant: str = "") -> dict[str, Any]:
        """Return what the server answers. Raises ServerRefused, and RlmError when it has gone."""
        headers = {TENANT_HEADER: tenant} if tenant else {}
        try:
            answer = await self._client.request(method, path, json=body, headers=headers)
            told: dict[str, Any] = answer.json()
        except (httpx.TransportError, ValueError) as error:
            raise RlmError(_LOST) from error
        if "error" in told and answer.status_code >= 400:
            raise ServerRefused(str(told["error"]["message"]))
        return told

    async def events(self, path: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield the events of a stream, each with its name. Raises RlmError when the server has gone."""
        name = ""
        try:
            async with self._client.stream("GET", path) as response:
                async for line in response.aiter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        yield name, json.loads(line.removeprefix("data: "))
        except httpx.TransportError as error:
            raise RlmError(_LOST) from error


@asynccontextmanager
async def reached(folder: Path) -> AsyncIterator[Served | None]:
    """Yield the server that keeps its records in this folder, None where none runs.

    A file that a killed server left behind is no server, and neither is another program on its port: who listens
    there must prove that it knows the secret in the file, before it is sent anything else.
    """
    presence = read_presence(folder)
    if presence is None or not _is_listened(presence):
        yield None
        return
    async with _client(presence) as client:
        yield Served(presence, client) if await _proves(client, presence) else None


async def _proves(client: httpx.AsyncClient, presence: Presence) -> bool:
    challenge = secrets.token_hex(16)
    try:
        # Without the secret: a stranger must not learn it.
        answer = await client.get(PROOF_PATH, params={"challenge": challenge}, timeout=_PROBE_S)
        proof = str(answer.json()["proof"])
    except (httpx.TransportError, ValueError, KeyError, TypeError):
        return False
    if not hmac.compare_digest(proof.encode(), proof_of(presence.secret, challenge).encode()):
        return False
    client.headers["Authorization"] = f"Bearer {presence.secret}"
    return True


def _client(presence: Presence) -> httpx.AsyncClient:
    timeout = httpx.Timeout(_SILENT_S, connect=_PROBE_S)
    if presence.address.startswith("unix:"):
        transport = httpx.AsyncHTTPTransport(uds=presence.address.removeprefix("unix:"))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=timeout, trust_env=False)
    verify: ssl.SSLContext | bool = True
    if presence.certificate:
        # This very certificate, whatever name it is for and whoever signed it.
        verify = ssl.create_default_context(cafile=presence.certificate)
        verify.check_hostname = False
        verify.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return httpx.AsyncClient(base_url=presence.address, timeout=timeout, verify=verify, trust_env=False)


def _is_listened(presence: Presence) -> bool:
    """Tell whether anybody listens there. Asked first, because httpx leaves a socket open that it cannot connect."""
    try:
        if presence.address.startswith("unix:"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
                caller.settimeout(_PROBE_S)
                caller.connect(presence.address.removeprefix("unix:"))
        else:
            url = httpx.URL(presence.address)
            socket.create_connection((url.host, url.port or 443), timeout=_PROBE_S).close()
    except OSError:
        return False
    return True
