"""Which kernels a processor and a file get."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from rlm_local.engine.llama.gguf import file_type
from rlm_local.engine.llama.kernels import reorders_weights

VNNI, OLDER = "CPU : AVX2 = 1 | AVX512 = 1 | AVX512_VNNI = 1 | ", "CPU : AVX2 = 1 | FMA = 1 | "
Q4_0, Q4_K_M = 2, 15


def weights(folder: Path, kind: int) -> Path:
    """Write a header of one key, and a second one that is cut off."""
    name = b"general.file_type"
    key = struct.pack("<Q", len(name)) + name + struct.pack("<II", 4, kind)
    path = folder / f"{kind}.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + key + b"\0\0")
    return path


@pytest.mark.parametrize(
    ("kind", "processor", "copy"), [(Q4_K_M, VNNI, False), (Q4_K_M, OLDER, True), (Q4_0, VNNI, True)]
)
def test_only_weights_that_the_tiled_kernels_know_are_left_in_order(
    tmp_path: Path, kind: int, processor: str, copy: bool
) -> None:
    assert reorders_weights(weights(tmp_path, kind), processor) is copy


def test_the_file_type_is_read_without_the_rest_of_the_header(tmp_path: Path) -> None:
    assert file_type(weights(tmp_path, Q4_K_M)) == Q4_K_M


@pytest.mark.parametrize("raw", [b"", b"GGUF", b"GGUF" + b"\xff" * 40, b"PK"])
def test_a_file_that_says_nothing_has_no_file_type(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(raw)
    assert file_type(path) is None
    assert file_type(tmp_path / "missing.gguf") is None
