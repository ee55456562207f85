"""Jails that wait: used once, replaced when they die or age, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from rlm_local.errors import ConfigError
from rlm_local.jail.memory import seal
from rlm_local.jail.pool import JailPool
from rlm_local.jail.process import Jail
from rlm_local.jail.session import JailSession
from rlm_local.types import CellStatus, Corpus, Document
from tests.jail.conftest import CORPUS, LIMITS, echo

pytestmark = pytest.mark.jail
PATIENCE_S = 300.0


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes by itself, however slow the machine is."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # what is waited for sets no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def pool(real_jail: None) -> AsyncIterator[JailPool]:
    async with JailPool(2) as pool:
        await asyncio.wait_for(pool.full(), PATIENCE_S)
        yield pool


async def ask(session: JailSession, code: str) -> str:
    result = await session.execute(code, wall_s=20, query=echo)
    assert result.status is CellStatus.OK, result.error
    return result.stdout


async def test_a_jail_that_has_waited_serves_one_run_and_another_one_takes_its_place(pool: JailPool) -> None:
    waiting = pool.pids()
    for number in range(3):
        async with await JailSession.start(CORPUS, LIMITS, jails=pool.open) as session:
            if number == 0:
                assert session.jail.worker_pid == waiting[0]
            assert await ask(session, f"print('mine' in globals()); mine = {number}") == "False\n"
            assert "notice period is ninety days" in await ask(session, "print(context)")
        await asyncio.wait_for(pool.full(), PATIENCE_S)
    assert (pool.counts.taken, pool.counts.missed) == (3, 0)


async def test_a_run_that_finds_nobody_waiting_starts_its_own(real_jail: None) -> None:
    pool = JailPool(0)
    async with pool, await JailSession.start(CORPUS, LIMITS, jails=pool.open) as session:
        assert await ask(session, "1 + 1") == "2\n"
    assert pool.counts.missed == 1


async def test_the_bounds_of_a_jail_that_has_waited_are_those_of_its_run(pool: JailPool) -> None:
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_AS), r.getrlimit(r.RLIMIT_CPU))"
    async with (
        await JailSession.start(CORPUS, LIMITS) as cold,
        await JailSession.start(CORPUS, LIMITS, jails=pool.open) as warm,
    ):
        assert await ask(warm, code) == await ask(cold, code)
        assert pool.counts.taken == 1


async def test_a_jail_that_dies_while_it_waits_is_replaced(pool: JailPool) -> None:
    waiting = pool.pids()
    os.kill(waiting[0], signal.SIGKILL)
    await until(lambda: pool.waiting == 2 and waiting[0] not in pool.pids())
    assert pool.counts.died == 1


async def test_a_jail_that_died_this_very_moment_is_not_given_away(pool: JailPool) -> None:
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    async with await JailSession.start(CORPUS, LIMITS, jails=pool.open) as session:
        assert await ask(session, "1 + 1") == "2\n"


async def test_a_jail_that_has_waited_too_long_is_replaced(real_jail: None) -> None:
    async with JailPool(1, max_age_s=0.3) as pool:
        await until(lambda: pool.counts.aged >= 1 and pool.waiting == 1)
        assert pool.counts.died == 0


async def test_a_pool_that_is_closed_leaves_nothing(real_jail: None) -> None:
    async with JailPool(2) as pool:
        await asyncio.wait_for(pool.full(), PATIENCE_S)
        pids = pool.pids()
    assert not any(map(is_alive, pids))


async def test_a_rebuilt_session_takes_its_next_jail_from_the_pool(pool: JailPool) -> None:
    async with await JailSession.start(CORPUS, LIMITS, jails=pool.open) as session:
        await ask(session, "x = 7")
        await session.execute("import os; os._exit(1)", wall_s=20, query=echo)
        assert await ask(session, "x") == "7\n"
    assert pool.counts.taken == 2


async def test_two_runs_share_documents_that_were_sealed_once(pool: JailPool) -> None:
    text = "a line of some length\n" * 1_000
    with await seal(Corpus((Document("a", text),), text, (0,))) as sealed:
        sessions = [await JailSession.start(sealed, LIMITS, jails=pool.open) for _ in range(2)]
        for session in sessions:
            assert await ask(session, "len(context), context.count('length')") == f"({len(text)}, 1000)\n"
            await session.close()
        assert sealed.text.fileno() >= 0


@pytest.mark.parametrize("ahead", [-1, 257])
def test_the_size_of_a_pool_is_bounded(ahead: int) -> None:
    with pytest.raises(ConfigError, match=r"0\.\.256"):
        JailPool(ahead)


def test_nothing_that_waits_outlives_a_host_that_is_killed(real_jail: None) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 4
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    asyncio.run(until(lambda: not any(map(is_alive, pids))))


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:  # noqa: PTH123
            return "\nState:\tZ" not in status.read()
    except FileNotFoundError:
        return False


_PARENT = """
import asyncio
from rlm_local.jail.pool import JailPool

async def main():
    async with JailPool(2) as pool:
        await pool.full()
        jails = [idle.jail for idle in pool._idle]
        print(*(pid for jail in jails for pid in (jail.worker_pid, jail._process.pid)), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_start_ahead_that_fails_is_tried_again(real_jail: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", "/nowhere/nsjail")
    async with JailPool(1) as pool:
        await until(lambda: pool.counts.failed >= 1)
        monkeypatch.delenv("RLM_LOCAL_NSJAIL")
        await until(lambda: pool.waiting == 1)


async def test_a_jail_without_documents_can_be_ended(real_jail: None) -> None:
    jail = await Jail.start_ahead()
    await jail.end()
    assert jail.has_ended
