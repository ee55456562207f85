"""What a rebuilt session has lost is told to the model, once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from rlm_local.jail.session import JailSession
from rlm_local.types import CellResult, CellStatus

pytestmark = pytest.mark.jail
Run = Callable[..., Awaitable[CellResult]]

DIE = "import os; os._exit(1)"
LOST = "The session was rebuilt, and the variables of {} are gone: that code was not run again."


async def test_a_cell_that_was_stopped_is_not_run_again_and_its_loss_is_told_once(run: Run) -> None:
    await run("x = 1")
    assert (await run("n = 0\nwhile True: n += 1", wall_s=0.3)).status is CellStatus.TIMEOUT
    dead = await run(DIE)
    assert dead.error.endswith("this cell's variables are gone.\n" + LOST.format("cell 2"))
    assert (await run("x, 'n' in globals()")).stdout == "(1, False)\n"
    assert LOST.format("cell 2") not in (await run(DIE)).error


async def test_a_cell_that_needs_what_is_lost_is_lost_too(run: Run) -> None:
    assert (await run("hoard = []\nwhile True: hoard.append(bytearray(1 << 20))")).status is CellStatus.OUT_OF_MEMORY
    assert (await run("n = len(hoard) > 0\ndel hoard")).status is CellStatus.OK
    await run("x = 7")
    assert (await run(DIE)).error.endswith(LOST.format("cells 1, 2"))
    result = await run("x, 'n' in globals()")
    assert (result.stdout, result.error) == ("(7, False)\n", "")


async def test_a_loss_between_two_cells_is_told_by_the_next(session: JailSession, run: Run) -> None:
    await run("while True: pass", wall_s=0.3)
    os.kill(session.jail.worker_pid, signal.SIGKILL)
    await asyncio.wait_for(session.jail.exited(), timeout=10)
    result = await run("1 + 1")
    assert (result.status, result.stdout, result.error) == (CellStatus.OK, "2\n", LOST.format("cell 1"))


async def test_a_cell_that_raises_again_is_no_loss(run: Run) -> None:
    await run("c = 1\nraise ValueError('half way')")
    await run("raise KeyboardInterrupt")
    assert "that code was not run again" not in (await run(DIE)).error
    assert (await run("c")).stdout == "1\n"
