"""`python -m bench jail`: what a jail costs, from its start to its end."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.jail.figures import Figure
from rlm_local.documents import join
from rlm_local.errors import JailError
from rlm_local.jail import JailPool, JailSession, seal
from rlm_local.limits import MIB, Limits
from rlm_local.types import CellStatus, Document, SubCall, Usage

LIMITS = Limits()
WALL_S = 60.0
EMPTY_CELL = ""
TOUCH = "context[0], context[len(context) // 2], context[-1], len(context)"  # usable: both ends and the middle
SMALL = (Document("note.txt", "One line of text.\n"),)
_LINE = "The party of the first part shall pay the agreed sum to the party of the second part.\n"


@dataclass(slots=True)
class Timings:
    """Milliseconds, by name of the figure."""

    ms: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.ms.setdefault(name, []).append((time.perf_counter() - began) * 1e3)

    def figure(self, name: str, goal: float | None = None, remark: str = "") -> Figure:
        return Figure(name, "ms", tuple(self.ms.get(name, ())), goal, remark)


async def measure_small(rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """Time start, cells and end of jails with next to no text."""
    timings = Timings()
    await (await JailSession.start(join(SMALL), LIMITS)).close()  # reads files and libraries for the first time
    for number in range(rounds):
        with timings.timed("cold start to the end of the first cell"):
            session = await JailSession.start(join(SMALL), LIMITS)
            await _run(session, EMPTY_CELL)
        with timings.timed("end"):
            await session.close()
        if number % 10 == 9:
            say(f"cold starts: {number + 1} of {rounds}")
    async with _session() as session:
        for _ in range(rounds):
            with timings.timed("empty cell"):
                await _run(session, EMPTY_CELL)
        for _ in range(rounds):
            timings.ms.setdefault("sub-call, there and back", []).append(await _sub_call_ms(session))
    return [
        timings.figure("cold start to the end of the first cell", 60),
        timings.figure("empty cell", 1),
        timings.figure("sub-call, there and back", 0.2, "without an engine, timed by the cell"),
        timings.figure("end", remark="until nothing of the jail is left"),
    ]


async def measure_large(rounds: int, text_bytes: int, say: Callable[[str], None]) -> list[Figure]:
    """Time how long it takes until a large ASCII text can be used as `context`: first, again, and from a pool."""
    timings = Timings()
    documents = large_documents(text_bytes)
    size = f"{text_bytes / (1 << 30):g} GiB of ASCII"
    async with JailPool(1) as pool:
        for number in range(rounds):
            with timings.timed("first"):
                sealed = await seal(join(documents))
                session = await JailSession.start(sealed, LIMITS)
                await _run(session, TOUCH)
            await session.close()
            with sealed:
                with timings.timed("next, cold"):
                    session = await JailSession.start(sealed, LIMITS)
                    await _run(session, TOUCH)
                await session.close()
                for name, code in (("next", TOUCH), ("pool", EMPTY_CELL)):
                    await pool.full()
                    await asyncio.sleep(0.1)  # what the last run left to do is done
                    with timings.timed(name):
                        session = await JailSession.start(sealed, LIMITS, jails=pool.open)
                        await _run(session, code)
                    await session.close()
            del sealed
            gc.collect()
            if number % 10 == 9:
                say(f"large texts: {number + 1} of {rounds}")
        if pool.counts.missed:
            raise JailError(f"the pool had no jail ready {pool.counts.missed} times")
    return [
        Figure(f"{size}, first run on it", "ms", tuple(timings.ms["first"]), 1500, "joined, sealed, first cell"),
        Figure(f"{size}, next run", "ms", tuple(timings.ms["next"]), 50, "a jail of the pool, first cell"),
        Figure(f"{size}, next run without a pool", "ms", tuple(timings.ms["next, cold"]), 50, "cold start, first cell"),
        Figure(f"{size}, from the pool", "ms", tuple(timings.ms["pool"]), 2, "attached, first cell, empty"),
    ]


async def measure_memory(jails: int) -> list[Figure]:
    """Weigh idle jails: the worker and its nsjail, pages that several share divided among them."""
    figures = []
    async with JailPool(jails) as pool:
        await pool.full()
        waiting = [pool_bytes / MIB for pool_bytes in map(_pss_of_jail, pool.pids())]
        figures.append(Figure("memory of a jail that waits", "MiB", tuple(waiting), 15, f"{jails} at once"))
    sessions = [await JailSession.start(join(SMALL), LIMITS) for _ in range(jails)]
    try:
        samples = [_pss_of_jail(session.jail.worker_pid) / MIB for session in sessions]
    finally:
        for session in sessions:
            await session.close()
    figures.append(Figure("memory of a jail between cells", "MiB", tuple(samples), 15, f"{jails} at once"))
    return figures


def large_documents(text_bytes: int, count: int = 16) -> tuple[Document, ...]:
    """Return ASCII documents of this many bytes in all."""
    lines = -(-text_bytes // (count * len(_LINE)))
    return tuple(Document(f"part-{i}.txt", (_LINE * lines)[: text_bytes // count]) for i in range(count))


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise JailError(f"/proc/{pid}/smaps_rollup names no Pss")


def _pss_of_jail(worker: int) -> int:
    """Return what the worker and its nsjail hold."""
    stat = Path(f"/proc/{worker}/stat").read_text(encoding="ascii", errors="replace")
    return pss_bytes(worker) + pss_bytes(int(stat.rpartition(")")[2].split()[1]))


@asynccontextmanager
async def _session() -> AsyncIterator[JailSession]:
    async with await JailSession.start(join(SMALL), LIMITS) as session:
        await _run(session, "import time")
        yield session


async def _sub_call_ms(session: JailSession) -> float:
    """Return the median time of ten sub-calls of one cell: the cell's own start and end are no part of it."""
    result = await session.execute(_SUB_CALLS, wall_s=WALL_S, query=echo)
    if result.status is not CellStatus.OK:
        raise JailError(f"a cell of the bench ended as {result.status}: {result.error}")
    return float(result.stdout)


_SUB_CALLS = """
took = []
for number in range(10):
    began = time.perf_counter()
    llm_query("a question of a usual length, about as long as this line is, to which there is a short reply")
    took.append(time.perf_counter() - began)
print(sorted(took)[5] * 1e3)
"""


async def _run(session: JailSession, code: str) -> None:
    result = await session.execute(code, wall_s=WALL_S, query=echo)
    if result.status is not CellStatus.OK:
        raise JailError(f"a cell of the bench ended as {result.status}: {result.error}")


async def echo(prompts: Sequence[str]) -> list[SubCall]:
    """Answer every prompt with itself."""
    return [SubCall(prompt, prompt, Usage()) for prompt in prompts]
