"""Memory files: what goes to a jail or comes from one without ever being on a disk."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

_MFD_NOEXEC_SEAL = 0x8  # Linux 6.3
_CHUNK_CHARS = 1 << 20


def memory_file(name: str) -> int:
    """Return the descriptor of an empty memory file that can be sealed and, on a recent kernel, never executed."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create(name, flags)


def sealed_text(name: str, text: str) -> tuple[int, int]:
    """Return descriptor and bytes of a memory file that holds text as UTF-8 and can never be changed.

    Encoded a chunk at a time: the bytes of a large text are never there twice.
    """
    descriptor = memory_file(name)
    try:
        count = 0
        for start in range(0, len(text), _CHUNK_CHARS):
            count += _write_all(descriptor, text[start : start + _CHUNK_CHARS].encode("utf-8", "surrogatepass"))
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, count


def read_tail(descriptor: int, max_bytes: int) -> str:
    """Return the end of a memory file as text."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, max_bytes, max(0, size - max_bytes)).decode("utf-8", "replace")


@contextmanager
def closing(*descriptors: int) -> Iterator[None]:
    """Close the descriptors at the end, whatever happens."""
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    written = 0
    while written < len(data):
        written += os.write(descriptor, view[written:])
    return written
