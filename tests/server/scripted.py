"""A server over a scripted model: application, HTTP, admission and controller are real, model and jail are not."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlm_local import __version__
from rlm_local.cards import Card
from rlm_local.controller import Past, Ports, run_node
from rlm_local.documents import cite, join
from rlm_local.errors import RlmError
from rlm_local.events import DocumentInfo, RunStarted
from rlm_local.ports import Recorder
from rlm_local.prompts import load_profile
from rlm_local.server.app import application
from rlm_local.server.database import Database
from rlm_local.server.desk import Desk
from rlm_local.server.files import Files
from rlm_local.server.keys import Keys
from rlm_local.server.listen import listen_tcp, listen_unix
from rlm_local.server.owner import Owner
from rlm_local.server.presence import Presence, new_secret, remove_presence, write_presence
from rlm_local.server.quotas import Quotas
from rlm_local.server.runs import Runs
from rlm_local.server.serve import _Http
from rlm_local.testing import ScriptedEngine, ScriptedRepl
from rlm_local.types import Answer, Completion, EngineInfo, Reply, Request, Sampling

MODEL = "smollm2-135m"
LEASE = "The notice period is ninety days. " * 100  # long enough to be a document
LOOK = '```repl\nprint(search("notice"))\n```'
FINAL = 'FINAL("ninety days")'


@dataclass
class Asked:
    """What a runtime was asked."""

    request: Request
    scope: str
    sampling: Sampling | None


@dataclass
class ScriptedRuntime:
    """A Runtime whose runs are the controller's, with cells that print what the script says."""

    card: Card
    engine: ScriptedEngine
    printed: str = "The notice period is ninety days.\n"
    warnings: tuple[str, ...] = ()
    weights_sha256: str = "0" * 64
    asked: list[Asked] = field(default_factory=list)
    open_jails: int = 0

    async def ask(
        self,
        request: Request,
        recorder: Recorder,
        *,
        scope: str = "",
        sampling: Sampling | None = None,
        past: Past | None = None,
    ) -> Answer:
        self.asked.append(Asked(request, scope, sampling))
        corpus = join(request.documents)
        self.open_jails += 1
        if past is None:
            recorder.write(self.started(request))
        try:
            return await run_node(
                request,
                corpus,
                Ports(self.engine, ScriptedRepl([self.printed] * 8), recorder),
                load_profile("small"),
                sampling=sampling or self.card.sampling,
                cite=partial(cite, corpus=corpus, question=request.question),
                past=past,
            )
        finally:
            self.open_jails -= 1

    def started(self, request: Request) -> RunStarted:
        return _started(request, self.engine.info, self.weights_sha256)


def _started(request: Request, engine: EngineInfo, weights_sha256: str) -> RunStarted:
    documents = tuple(DocumentInfo(each.name, len(each.text), "0" * 64) for each in request.documents)
    return RunStarted(
        question=request.question,
        model=MODEL,
        weights_sha256=weights_sha256,
        profile="small",
        prompts_sha256="0" * 64,
        sampling=Sampling(),
        documents=documents,
        limits=request.limits,
        grammar=request.grammar,
        answer_schema=request.answer_schema,
        require_coverage=request.require_coverage,
        engine=engine,
        version="0",
    )


class PausedEngine(ScriptedEngine):
    """Answers nothing, or but the first `free` requests, until it is let go; tells how many requests it holds."""

    def __init__(self, replies: Any, *, free: int = 0) -> None:
        super().__init__(replies, window_tokens=32_000)
        self.free = free
        self.go = asyncio.Event()
        self.held = 0

    async def complete(self, completion: Completion) -> Reply:
        if self.free:
            self.free -= 1
            return await super().complete(completion)
        self.held += 1
        try:
            await self.go.wait()
            return await super().complete(completion)
        finally:
            self.held -= 1


class Served:
    """A running server, spoken to over its own unix socket."""

    def __init__(self, desk: Desk, runtime: ScriptedRuntime, socket: Path, keys: Keys) -> None:
        self.desk = desk
        self.keys = keys
        self.runtime = runtime
        self.socket = socket
        self.url = ""
        self.client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://localhost", timeout=30
        )

    @property
    def engine(self) -> ScriptedEngine:
        return self.runtime.engine

    async def chat(self, *, status: int = 200, **body: Any) -> dict[str, Any]:
        response = await self.client.post("/v1/chat/completions", json=chat_body(**body))
        assert response.status_code == status, response.text
        return response.json()

    async def events(self, **body: Any) -> list[dict[str, Any]]:
        """Return the events of a stream; its [DONE], or an error in its place, is the last thing that comes."""
        async with self.client.stream("POST", "/v1/chat/completions", json=chat_body(stream=True, **body)) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            text = (await response.aread()).decode()
        lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
        if lines[-1] == "[DONE]":
            lines.pop()
        return [json.loads(line) for line in lines]


def chat_body(**fields: Any) -> dict[str, Any]:
    """Return a request about the lease, but for the fields given; None leaves one out."""
    document = {"role": "user", "content": LEASE}
    question = {"role": "user", "content": "How long is the notice period?"}
    body = {"model": MODEL, "messages": [document, question], **fields}
    return {name: value for name, value in body.items() if value is not None}


async def until(condition: Callable[[], Any], *, within_s: float = 120.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 what is waited for happens in another task
            await asyncio.sleep(0.005)


def failing(monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """Let the server's records refuse the first statement that holds this text."""
    write, failed = Database.write, []

    def refused(self: Database, said: str, *values: Any) -> int:
        if statement in said and not failed:
            failed.append(said)
            raise RlmError("the server's records cannot be written: database is locked")
        return write(self, said, *values)

    monkeypatch.setattr(Database, "write", refused)


@asynccontextmanager
async def serving(
    desk: Desk, runtime: Any, folder: Path, *, found: bool = False, by_tcp: bool = False
) -> AsyncIterator[Served]:
    """found: by commands on this machine too, as a server that was started from the command line.

    by_tcp: on a port of loopback as well, which `Served.url` names.
    """
    socket = folder / "s"
    database = Database(folder / "state")
    keys = Keys(database)
    desk.quotas = Quotas(database)
    files = Files(database, desk.settings)
    runs = Runs(desk, database, files)
    if runtime is not None:
        desk.open(runtime)
        runs.go_on()
    owner = Owner(new_secret()) if found else None
    http = _Http(application(desk, keys, files, runs, owner), desk.settings)
    listeners = [listen_unix(socket), *([listen_tcp("127.0.0.1", 0)] if by_tcp else [])]
    running = asyncio.create_task(http.serve(sockets=listeners))
    served = Served(desk, runtime, socket, keys)
    if by_tcp:
        served.url = f"http://127.0.0.1:{listeners[1].getsockname()[1]}"
    if owner is not None:
        told = Presence(os.getpid(), __version__, desk.card.name, f"unix:{socket}", "", owner.secret, time.time())
        write_presence(database.folder, told)
    try:
        yield served
    finally:
        remove_presence(database.folder)
        await served.client.aclose()
        http.should_exit = True
        await desk.stop(0.01)
        await running
        database.close()
