"""`python -m bench jail-churn`: jails by the thousand, started, used and ended, and what is left of them."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.processes import below, descriptors, rss_bytes
from rlm_local.documents import join
from rlm_local.errors import RlmError
from rlm_local.jail import JailSession
from rlm_local.limits import Limits
from rlm_local.types import CellStatus, Document, SubCall

_DOCUMENTS = (Document("note.txt", "One line of text.\n" * 100),)
_WALL_S = 120.0
_MOST_RSS_GROWTH = 8 << 20  # bytes, after the first wave: an interpreter's own caches
_OURS = re.compile(r"rlm-local\.\d+\.[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Left:
    """What this process and this machine hold."""

    descriptors: int
    processes: int  # ours and below
    mounts: int
    cgroups: int  # of ours, on the whole machine
    folders: int  # that nsjail makes
    rss_bytes: int


@dataclass(slots=True)
class ChurnResult:
    jails: int
    at_once: int
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    ids: int = 0  # different users that the kernel took the workers for
    before: Left | None = None
    after: Left | None = None

    def faults(self) -> list[str]:
        """Return what is not as it was before, and what failed."""
        faults = list(self.failures)
        assert self.before is not None
        assert self.after is not None
        for name, was in asdict(self.before).items():
            now = asdict(self.after)[name]
            if now > was + (_MOST_RSS_GROWTH if name == "rss_bytes" else 0):
                faults.append(f"{name}: {was} before, {now} after")
        return faults

    def lines(self) -> list[str]:
        told = [f"{self.jails:,} jails, {self.at_once} at once, {self.seconds:.0f} s, {self.ids:,} ids"]
        told += [f"{when}: {asdict(left)}" for when, left in (("before", self.before), ("after", self.after)) if left]
        return told + [f"FAULT: {fault}" for fault in self.faults()[:20]]


async def churn(jails: int, at_once: int, say: Callable[[str], None]) -> ChurnResult:
    """Start, use and end so many jails. The state before is that after a first wave, when all caches are warm."""
    result = ChurnResult(jails, at_once)
    ids: set[int] = set()
    await asyncio.gather(*(_one(result, ids) for _ in range(at_once)))
    gc.collect()
    result.before = left()
    began = time.monotonic()
    waiting = iter(range(jails))
    done = 0

    async def work() -> None:
        nonlocal done
        for _ in waiting:
            await _one(result, ids)
            done += 1
            if done % 500 == 0:
                say(f"{done:,} of {jails:,} jails, {time.monotonic() - began:.0f} s, {len(result.failures)} failures")

    await asyncio.gather(*(work() for _ in range(at_once)))
    gc.collect()
    result.seconds, result.after, result.ids = time.monotonic() - began, left(), len(ids)
    return result


async def _one(result: ChurnResult, ids: set[int]) -> None:
    try:
        async with await JailSession.start(join(_DOCUMENTS), Limits()) as session:
            ids.add(os.stat(f"/proc/{session.jail.worker_pid}").st_uid)  # noqa: PTH116
            cell = await session.execute("len(context)", wall_s=_WALL_S, query=_no_query)
        if cell.status is not CellStatus.OK or cell.stdout != f"{len(join(_DOCUMENTS).context)}\n":
            result.failures.append(f"a cell ended as {cell.status} and printed {cell.stdout!r}: {cell.error}")
    except (RlmError, OSError) as error:
        result.failures.append(f"{type(error).__name__}: {error}")


async def _no_query(*prompts: object) -> list[SubCall]:
    raise AssertionError(prompts)


def left() -> Left:
    """Count what jails could leave behind."""
    return Left(
        descriptors=descriptors(os.getpid()),
        processes=1 + sum(1 for _ in below(os.getpid())),
        mounts=len(Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()),
        cgroups=sum(bool(_OURS.fullmatch(name)) for _, names, _ in os.walk("/sys/fs/cgroup") for name in names),
        folders=sum(1 for _ in Path("/tmp").glob("nsjail*")),
        rss_bytes=rss_bytes(os.getpid()),
    )
