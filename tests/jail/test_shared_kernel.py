"""What two jails share is the kernel: no call leaves there what another jail, or the host, could read or miss."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rlm_local.jail.session import JailSession
from rlm_local.types import CellResult

pytestmark = pytest.mark.jail
Run = Callable[..., Awaitable[CellResult]]

CALL = """
import ctypes, errno, os, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = libc.mmap.restype = ctypes.c_long

def call(number, *arguments):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result

shared = os.open(os.__file__, os.O_RDONLY)  # a file that every jail has
page = libc.mmap(None, 4096, 1, 1, shared, 0)  # PROT_READ, MAP_SHARED
reader, writer = os.pipe()
"""
FCNTL, FUTEX, MADVISE, MMAP, PRCTL, ARCH_PRCTL, CLONE, GETSOCKOPT = 72, 202, 28, 9, 157, 158, 56, 55


@pytest.fixture
def call(run: Run) -> Callable[[str], Awaitable[str]]:
    """Make one system call in the jail, and return its result or its error's name."""

    async def make(arguments: str) -> str:
        result = await run(f"{CALL}\nprint(call({arguments}))")
        assert result.error == ""
        return result.stdout.strip()

    return make


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (
            f"{FUTEX}, page, 0, struct.unpack('i', ctypes.string_at(page, 4))[0], struct.pack('qq', 0, 1), 0, 0",
            "EAGAIN",
        ),
        (f"{FUTEX}, page, 1, 1, 0, 0, 0", "EAGAIN"),  # FUTEX_WAKE tells how many waited
        (f"{FUTEX}, page, 9, 0, struct.pack('qq', 0, 1), 0, -1", "EAGAIN"),
        (f"{FUTEX}, page, 3, 1, 1, page + 8, 0", "EAGAIN"),
        (f"{FCNTL}, shared, 6, bytes(32)", "EPERM"),  # F_SETLK
        (f"{FCNTL}, shared, 6 | 1 << 32, bytes(32)", "EPERM"),  # as a 64-bit comparison would see it
        (f"{FCNTL}, shared, 5, bytes(32)", "EPERM"),  # F_GETLK
        (f"{FCNTL}, shared, 1024, 0", "EPERM"),  # F_SETLEASE
        (f"{FCNTL}, shared, 1026, 1", "EPERM"),  # F_NOTIFY
        (f"{FCNTL}, shared, 1036, bytes([3] + [0] * 7)", "EPERM"),  # F_SET_RW_HINT
        (f"{FCNTL}, shared, 1035, bytes(8)", "EPERM"),  # F_GET_RW_HINT
        (f"{FCNTL}, writer, 1031, 1 << 20", "EPERM"),  # F_SETPIPE_SZ counts against the user
        (f"{MADVISE}, page, 4096, 21", "EPERM"),  # MADV_PAGEOUT
        (f"{MADVISE}, page, 4096, 12", "EPERM"),  # MADV_MERGEABLE
        ("221, shared, 0, 0, 4", "ENOSYS"),  # fadvise64, POSIX_FADV_DONTNEED
        ("74, shared", "0"),  # fsync: not made, so the host writes nothing
        ("26, page, 4096, 4", "0"),  # msync
        ("138, shared, bytes(128)", "ENOSYS"),  # fstatfs: free blocks of the host's disk
        ("324, 1, 0", "ENOSYS"),  # membarrier stops every processor
        (f"{MMAP}, 0, 1 << 21, 3, 0x40022, -1, 0", "EPERM"),  # MAP_HUGETLB takes from the host's pool
    ],
)
async def test_nothing_that_two_jails_share_can_be_marked(
    call: Callable[[str], Awaitable[str]], arguments: str, answer: str
) -> None:
    assert await call(arguments) == answer


@pytest.mark.parametrize("option", [17, 31, 59, 77])  # SO_PEERCRED, PEERSEC, PEERGROUPS, PEERPIDFD
async def test_the_channel_does_not_lead_to_the_process_behind_it(run: Run, option: int) -> None:
    result = await run(
        f"""
{CALL}
import socket
for fd in range(3, 64):
    try: socket.socket(fileno=os.dup(fd)).getsockname(); break
    except OSError: pass
print(call({GETSOCKOPT}, fd, 1, {option}, bytes(64), struct.pack("i", 64)))
"""
    )
    assert result.stdout == "EPERM\n", result.error


async def test_a_thread_has_no_files_of_its_own(call: Callable[[str], Awaitable[str]]) -> None:
    of_a_thread, files, sighand = 0x3D0F00, 0x400, 0x800
    for flags in (of_a_thread & ~files, of_a_thread | 0x4000, sighand, 0, 17):
        assert await call(f"{CLONE}, {flags}, 0, 0, 0, 0") == "EPERM"


async def test_threads_are_made_and_joined(run: Run) -> None:
    result = await run(
        """
        from concurrent.futures import ThreadPoolExecutor
        import asyncio
        with ThreadPoolExecutor(8) as pool:
            print(sum(pool.map(len, ['ab'] * 1000)))
        print(asyncio.run(asyncio.to_thread(lambda: 7)))
        """
    )
    assert result.stdout == "2000\n7\n", result.error


async def test_timers_and_signals_that_wait_are_bounded(run: Run) -> None:
    result = await run(
        f"{CALL}\ntimers = 0\nwhile timers < 10_000 and call(222, 1, 0, bytes(4)) == 0: timers += 1\ntimers"
    )
    assert int(result.stdout) <= 64


async def test_a_worker_that_crashes_leaves_no_core(
    session: JailSession, call: Callable[[str], Awaitable[str]]
) -> None:
    worker = Path(f"/proc/{session.jail.worker_pid}")
    # The kernel gives the files of a process that may not be dumped to root, whoever it runs as.
    assert (worker / "environ").stat().st_uid == 0
    assert f"Max core file size        {0:<20} {0:<20}" in (worker / "limits").read_text(encoding="ascii")
    assert await call(f"{PRCTL}, 4, 1, 0, 0, 0") == "EPERM"
