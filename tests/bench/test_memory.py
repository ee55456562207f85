from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.memory import PeakMemory, held_bytes, is_engine, process_tree, read_memory

MIB = 1 << 20
HELD = 64 * MIB

pytestmark = pytest.mark.skipif(not PeakMemory.can_measure(), reason="this kernel does not list a process's children")


@contextmanager
def child(*arguments: str) -> Iterator[int]:
    """A process below this one that holds HELD bytes until the block ends; yields its pid."""
    code = f"held = bytearray({HELD}); print('ready', flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.write("\n")
        process.stdin.flush()


def test_a_child_is_in_the_tree_and_counted() -> None:
    with child() as pid:
        assert pid in set(process_tree(os.getpid(), is_engine))
        memory = PeakMemory()
        memory.sample()
    assert memory.sampled_bytes >= HELD + read_memory(os.getpid()).resident - MIB
    assert memory.bound_bytes >= memory.sampled_bytes


def test_the_engine_is_not_counted() -> None:
    with child("rlm_local.engine.llama") as pid:
        assert pid not in set(process_tree(os.getpid(), is_engine))


def test_a_peak_between_two_looks_is_in_the_bound() -> None:
    with PeakMemory() as memory:
        held = bytearray(HELD)
        del held
    assert memory.bound_bytes >= HELD


def test_a_process_that_has_ended_holds_nothing() -> None:
    with child() as pid:
        pass
    assert read_memory(pid).resident == 0


def test_a_memory_file_is_held_mapped_or_not_and_once_by_whoever_shares_it() -> None:
    before = held_bytes(os.getpid())
    file = os.memfd_create("documents")
    try:
        os.write(file, bytes(HELD))
        assert held_bytes(os.getpid()) - before == pytest.approx(HELD, abs=4 * MIB)
        with mmap.mmap(file, HELD, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            assert view.find(b"x") == -1
            assert held_bytes(os.getpid()) - before == pytest.approx(HELD, abs=4 * MIB)
            with child() as pid:
                assert held_bytes(os.getpid()) - before > 2 * HELD - 4 * MIB
                assert held_bytes(pid) >= HELD
    finally:
        os.close(file)
