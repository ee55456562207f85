"""Memory that the kernel takes back by killing is told from time that is up, by the kernel's own counter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_local.jail.session import JailSession
from rlm_local.limits import MIB, Limits
from rlm_local.types import CellResult, CellStatus

pytestmark = pytest.mark.jail
Run = Callable[..., Awaitable[CellResult]]
Start = Callable[..., Awaitable[JailSession]]

TAKE = "kept = bytearray(200 << 20)\nfor at in range(0, len(kept), 4096): kept[at] = 1\nprint(len(kept))"


def oom_score(session: JailSession) -> str:
    return Path(f"/proc/{session.jail.worker_pid}/oom_score_adj").read_text()


def lower(session: JailSession, count: int) -> None:
    """Set the bound of the session's control group below what its cells may ask for."""
    group = session.jail.group
    if group is None:
        pytest.skip("no control group can be made here, so the kernel kills nobody of a jail's own")
    name = "memory.max" if group.version == 2 else "memory.limit_in_bytes"
    (group.folders[0] / name).write_text(str(count))


async def test_a_cell_that_the_kernel_kills_for_memory_is_told_from_one_that_ran_too_long(
    session: JailSession, run: Run
) -> None:
    await run("x = 1")
    lower(session, 64 * MIB)
    killed = await run(TAKE)
    assert killed.status is CellStatus.OUT_OF_MEMORY
    assert killed.error.startswith("The cell ran out of memory and was ended. The session was rebuilt")
    late = await run(
        "x += 1\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass", wall_s=0.3
    )
    assert late.status is CellStatus.TIMEOUT
    assert (await run("x in (1, 2)")).stdout == "True\n"  # 2 where an interrupt met the handler of the one before


async def test_a_crash_in_a_group_that_has_killed_nobody_is_no_want_of_memory(session: JailSession, run: Run) -> None:
    assert (await run("import os; os._exit(137)")).status is CellStatus.KILLED
    assert (await run(TAKE)).stdout == f"{200 << 20}\n"


async def test_the_group_bounds_what_the_address_space_does_not(start: Start, limits: Limits) -> None:
    session = await start(limits=replace(limits, cell_memory_bytes=128 * MIB))
    group = session.jail.group
    if group is None:
        pytest.skip("no control group can be made here")
    bound = group.folders[0] / ("memory.max" if group.version == 2 else "memory.limit_in_bytes")
    assert 128 * MIB <= int(bound.read_text()) <= 128 * MIB + 70 * MIB
    swap = group.folders[0] / "memory.memsw.limit_in_bytes"
    assert not swap.exists() or swap.read_text() == bound.read_text()
    assert str(session.jail.worker_pid) in (group.folders[-1] / "cgroup.procs").read_text().split()
    assert oom_score(session) == "1000\n"
