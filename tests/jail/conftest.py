"""What the jail's tests share: a corpus, and sessions that are closed whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from textwrap import dedent

import pytest

from rlm_local.errors import JailUnavailable
from rlm_local.jail.session import JailSession
from rlm_local.limits import MIB, Limits
from rlm_local.ports import QueryHandler
from rlm_local.types import CellResult, Corpus, Document, SubCall, Usage
from sandbox.worker.corpus import Corpus as WorkerCorpus

LIMITS = Limits(cell_s=20.0, cell_output_bytes=4096, cell_memory_bytes=256 * MIB)
WALL_S = 20.0

LEASE = (
    "1. The lease begins on 1 July 2026.\n"
    "2. The tenant's notice period is ninety days.\n"
    "3. The deposit amounts to 4,200 euros and bears no interest.\n"
)
LETTER = "Dear tenant,\nthe heating in flat 12 will be repaired on Monday.\n"

Run = Callable[..., Awaitable[CellResult]]


def corpus_of(*documents: Document) -> Corpus:
    """Join documents as the runtime does: each under a header line with its name."""
    context, starts = "", []
    for document in documents:
        context += f"=== {document.name} ===\n"
        starts.append(len(context))
        context += document.text + "\n"
    return Corpus(documents, context, tuple(starts))


def worker_corpus(*documents: Document) -> WorkerCorpus:
    """Return the same as the worker has it."""
    joined = corpus_of(*documents)
    names = [document.name for document in documents]
    return WorkerCorpus(str(joined.context), names, joined.starts, [len(document.text) for document in documents])


CORPUS = corpus_of(Document("lease.txt", LEASE), Document("letter.txt", LETTER))


async def echo(prompts: Sequence[str], *_: object) -> list[SubCall]:
    """Answer every prompt with itself in capitals."""
    return [SubCall(prompt, prompt.upper(), Usage()) for prompt in prompts]


@pytest.fixture(scope="session")
def real_jail() -> None:
    """Skip, with what is missing, where no jail can be started."""

    async def try_one() -> None:
        await (await JailSession.start(CORPUS, LIMITS)).close()

    try:
        asyncio.run(try_one())
    except JailUnavailable as error:
        pytest.skip(f"{error} ({error.hint})")


Start = Callable[..., Awaitable[JailSession]]


@pytest.fixture
async def start(real_jail: None) -> AsyncIterator[Start]:
    """Start sessions on the documents and limits of a test's own."""
    async with AsyncExitStack() as stack:

        async def start_one(*documents: Document, limits: Limits = LIMITS, **options: object) -> JailSession:
            corpus = corpus_of(*documents) if documents else CORPUS
            return await stack.enter_async_context(await JailSession.start(corpus, limits, **options))  # type: ignore[arg-type]

        yield start_one


@pytest.fixture
async def session(start: Start) -> JailSession:
    return await start()


@pytest.fixture
def run(session: JailSession) -> Run:
    """Run a cell of `session` with the usual limits and the echo as engine."""

    async def run_cell(code: str, *, wall_s: float = WALL_S, query: QueryHandler = echo) -> CellResult:
        return await session.execute(dedent(code), wall_s=wall_s, query=query)

    return run_cell


@pytest.fixture(scope="session")
def limits() -> Limits:
    return LIMITS
