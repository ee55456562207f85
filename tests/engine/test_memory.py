"""What is available, and what is refused because it is not: a made-up /proc and /sys, and a real control group."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_local.engine.llama.gguf import ModelShape
from rlm_local.engine.memory import BUFFERS_BYTES, STATES, available_bytes, cells_for, footprint, shelf_for
from rlm_local.errors import ConfigError
from rlm_local.jail import cgroup

GIB, KIB = 1 << 30, 1 << 10
SHAPE = ModelShape("llama", context_tokens=8192, weights_bytes=GIB, kv_bytes_per_token=64 * KIB)
V1 = "32 31 0:29 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2 = "32 31 0:29 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"


class Machine:
    """A root folder with the files that are looked at; 8 GiB can be had by its kernel."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("proc/meminfo", f"MemTotal: 1 kB\nMemAvailable:   {8 * GIB // KIB} kB\n")

    def put(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def available_gib(self) -> float:
        return available_bytes(self.root) / GIB


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_control_groups_the_kernel_decides(machine: Machine) -> None:
    assert machine.available_gib() == 8


def test_the_narrowest_group_around_us_decides_and_its_page_cache_counts_as_free(machine: Machine) -> None:
    machine.put("proc/self/mountinfo", "1 0 0:1 / / rw - ext4 /dev/x rw\n" + V2.format(root="/"))
    machine.put("proc/self/cgroup", "0::/box/inner\n")
    machine.put("sys/fs/cgroup/box/memory.max", f"{4 * GIB}\n")
    machine.put("sys/fs/cgroup/box/memory.current", f"{3 * GIB}\n")
    machine.put("sys/fs/cgroup/box/inner/memory.max", "max\n")
    machine.put("sys/fs/cgroup/box/inner/memory.current", f"{GIB}\n")
    assert machine.available_gib() == 1
    machine.put("sys/fs/cgroup/box/memory.stat", f"anon {GIB}\ninactive_file {GIB // 2}\nactive_file {GIB}\n")
    assert machine.available_gib() == 2.5


def test_a_container_that_sees_only_its_own_group_finds_its_limit(machine: Machine) -> None:
    machine.put("proc/self/mountinfo", V1.format(root="/docker/abc"))
    machine.put("proc/self/cgroup", "4:memory:/docker/abc\n2:cpu:/docker/abc\n0::/\n")
    machine.put("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2 * GIB}\n")
    machine.put("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{GIB}\n")
    machine.put("sys/fs/cgroup/memory/memory.stat", f"inactive_file 1\ntotal_inactive_file {GIB // 4}\n")
    assert machine.available_gib() == 1.25
    machine.put("proc/self/cgroup", "4:memory:/elsewhere\n")  # a group's name from outside of its name space
    assert machine.available_gib() == 1.25


def test_a_group_without_a_limit_is_as_large_as_the_machine(machine: Machine) -> None:
    machine.put("proc/self/mountinfo", V1.format(root="/"))
    machine.put("proc/self/cgroup", "4:memory:/a\n")
    machine.put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n")
    machine.put("sys/fs/cgroup/memory/a/memory.usage_in_bytes", f"{GIB}\n")
    assert machine.available_gib() == 8


def test_a_real_group_of_300_mib_is_seen_from_inside() -> None:
    group = cgroup.create(memory_bytes=300 << 20, processes=20)
    if group is None:
        pytest.skip("this system lets us make no control group")
    code = "input(); from rlm_local.engine.memory import available_bytes; print(available_bytes())"
    inside = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        group.add(inside.pid)
        said, _ = inside.communicate("go\n")
    finally:
        inside.kill()
        inside.wait()
        group.remove()
    assert inside.returncode == 0
    assert 200 << 20 < int(said) < 300 << 20
    assert available_bytes() > 300 << 20


def test_the_memory_holds_two_windows_or_what_there_is() -> None:
    assert cells_for(SHAPE, "m", window_tokens=4096, available_bytes=16 * GIB) == 8192
    # 1 GiB of weights, 0.25 of cells, 0.5 of buffers leave 0.125 GiB: half of it is 1,024 cells
    assert cells_for(SHAPE, "m", window_tokens=4096, available_bytes=15 << 27) == 4096 + 1024
    with pytest.raises(ConfigError, match=r"window_tokens is 9000, but m takes 1..8192"):
        cells_for(SHAPE, "m", window_tokens=9000, available_bytes=16 * GIB)


@pytest.mark.parametrize(
    ("available", "kv_tokens", "needs", "hint"),
    [
        (GIB, None, "4,096 cells needs 1.8 GiB of memory", "take a smaller model"),
        (GIB + BUFFERS_BYTES + 2048 * 64 * KIB, None, "4,096 cells needs 1.8 GiB", "at most 2,048 cells fit"),
        (2 * GIB, 100_000, "100,000 cells needs 7.6 GiB", "at most 8,192 cells fit; lower --kv-tokens"),
    ],
)
def test_what_cannot_fit_is_refused_with_every_number(
    available: int, kv_tokens: int | None, needs: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=needs) as refused:
        cells_for(SHAPE, "m", window_tokens=4096, kv_tokens=kv_tokens, available_bytes=available)
    assert f"{available / GIB:.1f} GiB are available" in str(refused.value)
    assert "1.0 GiB of weights" in str(refused.value)
    assert "cells at 64.0 KiB" in str(refused.value)
    assert refused.value.hint.startswith(hint)


def test_cells_that_are_asked_for_are_what_is_kept_but_never_less_than_a_window() -> None:
    assert cells_for(SHAPE, "m", window_tokens=4096, kv_tokens=5000, available_bytes=16 * GIB) == 5000
    with pytest.raises(ConfigError, match="kv_tokens is 4095, but one request may have 4096 tokens"):
        cells_for(SHAPE, "m", window_tokens=4096, kv_tokens=4095, available_bytes=16 * GIB)


def test_a_state_is_paid_for_each_sequence_and_needs_no_cells() -> None:
    shape = ModelShape("mamba", 8192, weights_bytes=GIB, kv_bytes_per_token=0, state_bytes=1 << 20)
    assert footprint(shape, 100).total_bytes == GIB + (STATES << 20) + BUFFERS_BYTES
    assert cells_for(shape, "m", window_tokens=4096, available_bytes=2 * GIB) == 8192


def test_the_shelf_is_as_large_as_the_cells_where_as_much_again_stays_free() -> None:
    needed = footprint(SHAPE, 5000)
    assert shelf_for(SHAPE, 5000, 16 * GIB) == 5000
    assert shelf_for(SHAPE, 5000, needed.total_bytes + needed.cells_bytes) == 2500
    assert shelf_for(SHAPE, 5000, 0) == shelf_for(replace(SHAPE, state_bytes=1), 5000, 16 * GIB) == 0
    assert footprint(SHAPE, 5000, shelf=2500).total_bytes == needed.total_bytes + needed.cells_bytes // 2
