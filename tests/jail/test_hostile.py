"""Code that turns the channel or the clock against the host is ended by the host's own limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from rlm_local.errors import WorkerLost
from rlm_local.jail.session import JailSession
from rlm_local.types import CellResult, CellStatus, SubCall, Usage

pytestmark = pytest.mark.jail

Start = Callable[..., Awaitable[JailSession]]
WALL_S = 1.0
ENDED_S = 30.0  # generous for a busy machine; without the limits these cells never end

CHANNEL = """
import ctypes, json, os, stat, struct
def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
channel = next(filter(is_socket, range(3, 64)))
def frame(members):
    payload = json.dumps(members).encode()
    return struct.pack(">I", len(payload)) + payload
"""


async def refuse_nothing(prompts: Sequence[str]) -> list[SubCall]:
    raise AssertionError("nobody is asked")


async def run(session: JailSession, code: str) -> CellResult:
    return await session.execute(CHANNEL + code, wall_s=WALL_S, query=refuse_nothing)


async def test_a_flood_of_valid_frames_does_not_stop_the_hosts_clock(start: Start) -> None:
    session = await start()
    assert (await run(session, "x = 1")).status is CellStatus.OK
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    clock = asyncio.create_task(tick())
    flood = (
        'flood = frame({"op": "spans", "cell_id": 0, "spans": [[0, 0, 5]] * 64})\nwhile True: os.write(channel, flood)'
    )
    async with asyncio.timeout(ENDED_S):
        result = await run(session, flood)
    clock.cancel()
    assert result.status in (CellStatus.TIMEOUT, CellStatus.KILLED)
    assert ticks > 0
    assert (await run(session, "print(x)")).stdout == "1\n"


async def test_a_cell_that_reads_no_replies_is_still_ended(start: Start) -> None:
    async def answer(prompts: Sequence[str]) -> list[SubCall]:
        return [SubCall(prompt, "x" * 1000, Usage()) for prompt in prompts]

    session = await start()
    deaf = """
for number in range(1, 9):
    os.write(channel, frame({"op": "query", "id": number, "cell_id": 1, "prompts": ["p"] * 1024}))
ctypes.PyDLL(None).pause()  # with the interpreter's lock: no thread of ours reads
"""
    async with asyncio.timeout(ENDED_S):
        result = await session.execute(CHANNEL + deaf, wall_s=WALL_S, query=answer)
    assert result.status in (CellStatus.TIMEOUT, CellStatus.KILLED), result.error
    after = await session.execute("print(2)", wall_s=WALL_S, query=answer)
    assert after.stdout == "2\n", after


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


async def test_between_two_cells_nothing_of_an_earlier_one_runs(start: Start) -> None:
    session = await start()
    spin = """
import threading
turns = 0
def spin():
    global turns
    while True: turns += 1
threading.Thread(target=spin, daemon=True).start()
"""
    assert (await run(session, spin)).status is CellStatus.OK
    jail = session.jail
    for _ in range(3000):
        if state_of(jail.worker_pid) == "T":
            break
        await asyncio.sleep(0.01)
    used_s = jail.cpu_s()
    await asyncio.sleep(0.3)
    assert jail.cpu_s() == used_s
    after = await run(session, "before = turns\nwhile turns == before: pass\nprint('it goes on')")
    assert after.stdout == "it goes on\n", after.error


async def test_a_private_copy_of_a_library_cannot_be_written_and_run(start: Start) -> None:
    session = await start()
    result = await run(
        session,
        """
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
library = os.open("/lib/libc.so.6", os.O_RDONLY)
for protection in (7, 6):
    print(libc.mmap(None, 4096, protection, 2, library, 0) in (None, 2**64 - 1), ctypes.get_errno())
""",
    )
    assert result.stdout == "True 1\nTrue 1\n", result.error  # EPERM


async def test_closing_a_session_while_a_cell_runs_leaves_no_jail(start: Start) -> None:
    session = await start()
    running = asyncio.Event()

    async def answer(prompts: Sequence[str]) -> list[SubCall]:
        running.set()
        return [SubCall(prompt, "go on", Usage()) for prompt in prompts]

    endless = 'llm_query("running")\nwhile True: pass'
    cell = asyncio.create_task(session.execute(endless, wall_s=ENDED_S, query=answer))
    await running.wait()
    await session.close()
    with pytest.raises(WorkerLost, match="closed"):
        await cell
    with pytest.raises(WorkerLost, match="no running jail"):
        _ = session.jail


async def test_code_that_kills_its_jail_only_when_it_is_run_again_does_not_end_the_run(start: Start) -> None:
    session = await start()
    later = time.time() + 1.0
    kept = await run(session, "kept = 1")
    trap = await run(session, f"import time\nif time.time() > {later}: os._exit(1)")
    assert (kept.status, trap.status) == (CellStatus.OK, CellStatus.OK)
    died = await run(session, f"while time.time() < {later}: pass\nos._exit(1)")
    assert died.status is CellStatus.KILLED
    assert "cell 2" in died.error
    assert (await run(session, "print(kept)")).stdout == "1\n"
