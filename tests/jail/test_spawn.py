"""A start that fails half way leaves nothing behind."""

from __future__ import annotations

import resource
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path

import pytest

from rlm_local.errors import JailUnavailable
from rlm_local.jail.launch import spawn
from rlm_local.jail.policy import Bounds
from rlm_local.limits import Limits

BOUNDS = Bounds.of(Limits(), 0)


@pytest.mark.jail
def test_a_start_that_runs_out_of_descriptors_leaves_none_open(real_jail: None) -> None:
    for spare in range(6):  # of the six that it opens first, so it comes one step further each time
        before = open_descriptors()
        free = (number for number in count() if number not in before)
        with pytest.raises((OSError, JailUnavailable)):
            limited_to(next(islice(free, spare, None)), lambda: spawn(BOUNDS, group_bytes=1 << 30, is_ahead=False))
        assert open_descriptors() == before


def open_descriptors() -> set[int]:
    """Return the numbers of what is open."""
    return {number for number in range(4096) if Path(f"/proc/self/fd/{number}").is_symlink()}


def limited_to(descriptors: int, act: Callable[[], object]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        act()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
