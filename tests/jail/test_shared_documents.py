"""Two runs on documents that were sealed once map the same pages, and neither can change, hold or mark them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rlm_local.jail import JailSession, seal
from rlm_local.types import CellResult, CellStatus, Document
from tests.jail.conftest import LIMITS, corpus_of, echo

pytestmark = pytest.mark.jail

TEXT = "the truth\n" * 10_000
PREPARE = """
import ctypes, errno, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
first = id(context) + sys.getsizeof(context) - len(context) - 1  # the first byte of the documents
page = first + 4096

def call(number, *arguments):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result
"""
MPROTECT, MREMAP, MSYNC, MINCORE, MADVISE, MLOCK, MLOCK2, FUTEX = 10, 25, 26, 27, 28, 149, 325, 202


@pytest.fixture
async def two(real_jail: None) -> AsyncIterator[tuple[JailSession, JailSession]]:
    with await seal(corpus_of(Document("a", TEXT))) as sealed:
        async with (
            await JailSession.start(sealed, LIMITS) as one,
            await JailSession.start(sealed, LIMITS) as other,
        ):
            for session in (one, other):
                assert (await cell(session, PREPARE)).error == ""
            yield one, other


async def cell(session: JailSession, code: str) -> CellResult:
    return await session.execute(code, wall_s=20, query=echo)


async def is_whole(session: JailSession) -> bool:
    result = await cell(session, "print(documents[0].text == 'the truth\\n' * 10_000)")
    return result.stdout == "True\n"


def documents_of(session: JailSession) -> set[str]:
    """Return device and inode of the documents' file, as the worker has it mapped."""
    maps = Path(f"/proc/{session.jail.worker_pid}/maps").read_text(encoding="utf-8").splitlines()
    return {" ".join(line.split()[3:5]) for line in maps if "memfd:documents" in line}


async def test_the_pages_of_both_are_the_same(two: tuple[JailSession, JailSession]) -> None:
    one, other = map(documents_of, two)
    assert one == other
    assert len(one) == 1


async def test_what_one_writes_only_one_reads(two: tuple[JailSession, JailSession]) -> None:
    one, other = two
    own = "print(call(10, page, 4096, 3))\nctypes.memset(page, 0x58, 4096)\nprint(ctypes.string_at(page, 3))"
    assert (await cell(one, own)).stdout == "0\nb'XXX'\n"  # mprotect made a copy of its own
    assert await is_whole(other)
    assert not await is_whole(one)
    assert (await cell(one, "ctypes.memset(first, 0x58, 9)")).status is CellStatus.KILLED  # mapped for reading only
    assert await is_whole(other)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (f"{MLOCK}, page, 4096", "EPERM"),
        (f"{MLOCK2}, page, 4096, 0", "EPERM"),
        (f"{MINCORE}, page, 4096, ctypes.create_string_buffer(1)", "EPERM"),  # whether a page is in memory
        (f"{MADVISE}, page, 4096, 9", "EPERM"),  # MADV_REMOVE makes a hole in the file
        (f"{MADVISE}, page, 4096, 20", "EPERM"),  # MADV_COLD
        (f"{MADVISE}, page, 4096, 21", "EPERM"),  # MADV_PAGEOUT
        (f"{MADVISE}, page, 4096, 12", "EPERM"),  # MADV_MERGEABLE
        (f"{MADVISE}, page, 4096, 25", "EPERM"),  # MADV_COLLAPSE
        (f"{MADVISE}, page, 4096, 100", "EPERM"),  # MADV_HWPOISON
        (f"{MADVISE}, page, 4096, 4", "0"),  # MADV_DONTNEED: its own entries, read again from the same pages
        (f"{MSYNC}, page, 4096, 4", "0"),  # not made
        (f"{FUTEX}, page, 1, 1, 0, 0, 0", "EAGAIN"),  # FUTEX_WAKE of whoever waits on this page of the file
        (
            f"{FUTEX}, page, 0, struct.unpack('i', ctypes.string_at(page, 4))[0], struct.pack('qq', 0, 1), 0, 0",
            "EAGAIN",
        ),
        ("216, page, 4096, 0, 1, 0", "ENOSYS"),  # remap_file_pages
    ],
)
async def test_neither_can_hold_mark_or_probe_them(
    two: tuple[JailSession, JailSession], arguments: str, answer: str
) -> None:
    one, other = two
    assert (await cell(one, f"print(call({arguments}))")).stdout == f"{answer}\n"
    assert await is_whole(one)
    assert await is_whole(other)


async def test_neither_has_a_descriptor_of_them(two: tuple[JailSession, JailSession]) -> None:
    code = """
import stat
found = []
for number in range(1 << 10):
    try:
        status = os.fstat(number)
    except OSError:
        continue
    if stat.S_ISREG(status.st_mode):
        found.append((number, status.st_size))
print(found)
"""
    for session in two:
        assert (await cell(session, code)).stdout == "[]\n"
