"""What is put away goes back to the system when it is dropped, whatever lies around it."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from rlm_local.engine.llama.pages import pages

MIB = 1 << 20


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_every_other_one_that_is_dropped_is_given_back() -> None:
    np.empty(30 * MIB, np.uint8)  # glibc's malloc takes what is smaller from its heap once such a block has been freed
    kept = [pages(MIB) for _ in range(100)]
    for at, one in enumerate(kept):
        one[:] = at
    before = resident()
    del kept[::2]
    assert before - resident() > 45 * MIB
    assert [one[-1] for one in kept] == list(range(1, 100, 2))


@pytest.mark.parametrize("size", [0, 1, 100_000, MIB + 1])
def test_any_size_can_be_written(size: int) -> None:
    made = pages(size)
    made[:] = 7
    assert made.nbytes == size == np.count_nonzero(made == 7)


def test_more_than_there_is_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="1152921504606846976 bytes"):
        pages(1 << 60)
