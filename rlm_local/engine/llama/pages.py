"""Memory for what is put away, which goes back to the system as soon as it is dropped."""

from __future__ import annotations

import mmap
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

_OWN_PAGES = 1 << 17  # bytes; from here on malloc keeps the hole of one that is dropped until something fits into it


def pages(size: int) -> NDArray[np.uint8]:
    """Return an array of so many bytes, of any content.

    Copies of all sizes come and go on a full shelf, and malloc kept holes between them that only grew. Pages of their
    own cost some tenths of a millisecond a MiB more; what a MiB holds took a hundred times as long to compute.
    Raises MemoryError.
    """
    if size < _OWN_PAGES:
        return np.empty(size, dtype=np.uint8)
    try:
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"there are no {size} bytes: {error.strerror}") from error
    with suppress(OSError):  # a kernel without huge pages
        mapping.madvise(mmap.MADV_HUGEPAGE)  # fewer faults while it is filled
    return np.frombuffer(mapping, dtype=np.uint8)  # which holds the mapping for as long as it lives
