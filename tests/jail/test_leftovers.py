"""Whatever dies leaves nothing: no process, no control group; and what a killed host could not remove is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlm_local.jail import leftovers

pytestmark = pytest.mark.jail
END_S = 60.0  # generous for a busy machine

HOST = """
import asyncio, sys
from pathlib import Path
from rlm_local.jail import JailSession
from rlm_local.limits import Limits
from rlm_local.types import Corpus, Document

async def main():
    session = await JailSession.start(Corpus((Document("a", "text"),), "text", (0,)), Limits())
    worker = session.jail.worker_pid
    nsjail = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]
    folders = [str(folder) for folder in session.jail.group.folders] if session.jail.group else []
    if sys.argv[1] == "once":
        await session.close()
    print(worker, nsjail, *folders, flush=True)
    if sys.argv[1] == "for ever":
        await session.execute("open('/tmp/x', 'wb').write(bytes(1 << 20))\\nwhile True: pass", wall_s=600, query=None)

asyncio.run(main())
"""


def start(how: str) -> tuple[subprocess.Popen[str], list[int], list[Path]]:
    host = subprocess.Popen([sys.executable, "-c", HOST, how], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    with host.stdout:
        worker, nsjail, *folders = host.stdout.readline().split()
    return host, [int(worker), int(nsjail)], [Path(folder) for folder in folders]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def members(group: Path) -> str:
    try:
        return (group / "cgroup.procs").read_text().strip()
    except OSError:
        return ""  # another host that has started meanwhile has swept it


def are_gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_host_that_is_killed_in_the_middle_of_a_cell_leaves_nothing_once_another_has_started(real_jail: None) -> None:
    host, pids, folders = start("for ever")
    host.send_signal(signal.SIGKILL)
    host.wait()
    wait_until(lambda: are_gone(pids))  # by the kernel's word alone
    wait_until(lambda: not any(map(members, folders)))
    later, _, _ = start("once")
    later.wait()
    assert [folder for folder in folders if folder.exists()] == []


@pytest.mark.parametrize("victim", [0, 1], ids=["worker", "nsjail"])
def test_a_worker_or_an_nsjail_that_is_killed_takes_the_other_with_it(real_jail: None, victim: int) -> None:
    host, pids, folders = start("for ever")
    os.kill(pids[victim], signal.SIGKILL)
    wait_until(lambda: are_gone(pids))
    wait_until(lambda: not any(folder.exists() for folder in folders))  # the host has removed its group
    host.send_signal(signal.SIGKILL)
    host.wait()


def test_a_session_that_is_closed_has_left_nothing(real_jail: None) -> None:
    host, pids, folders = start("once")
    assert host.wait() == 0
    assert are_gone(pids)
    assert [folder for folder in folders if folder.exists()] == []
    assert leftovers() == ()
