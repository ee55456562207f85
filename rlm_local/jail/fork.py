"""Forking a host that holds a gigabyte of documents, without copying the tables of their pages: that takes 50 ms a GiB.

The child is a copy of us until it executes nsjail, and touches no document until then. So the kernel is asked to leave
their pages out of it, for the moment of this fork. A fork that another thread makes just then gets them all the same.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_lock = threading.Lock()
_left_out: list[tuple[int, int]] = []  # address and bytes
_forking: int | None = None  # the thread that has left them out


@contextmanager
def left_out_of_fork(texts: Sequence[str]) -> Iterator[None]:
    """Within this, the calling thread's forks do without the pages of these texts: for what executes at once only."""
    global _forking
    with _lock:
        _forking = threading.get_ident()
        _left_out.extend(filter(None, map(_pages, texts)))
        try:
            _advise(mmap.MADV_DONTFORK)
            yield
        finally:
            _advise(mmap.MADV_DOFORK)
            _left_out.clear()
            _forking = None


def _pages(text: str) -> tuple[int, int] | None:
    """Return the whole pages that hold nothing but this text; None where there is none."""
    # CPython's id() is the address; the characters lie behind a header, so as many bytes from there are all its own.
    start = -(-id(text) // mmap.PAGESIZE) * mmap.PAGESIZE
    count = (id(text) + len(text) - start) // mmap.PAGESIZE * mmap.PAGESIZE
    return (start, count) if count > 0 else None


def _advise(advice: int) -> None:
    # What the kernel does not do costs time and nothing else, so a refusal is no error.
    for address, count in _left_out:
        _libc.madvise(address, count, advice)


def _before_fork() -> None:
    if _forking is not None and _forking != threading.get_ident():
        _advise(mmap.MADV_DOFORK)


os.register_at_fork(before=_before_fork)
