"""What a model needs, known before it is loaded."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from rlm_local.engine.launch import cells_for
from rlm_local.engine.llama.gguf import ModelShape, model_shape
from rlm_local.errors import ConfigError, EngineError


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04 something else", "not a GGUF file"),
        (b"GGUF\x03\0\0\0", "header does not end"),
        (b"GGUF\x09\0\0\0" + bytes(16), "GGUF version 9"),
        (b"GGUF\x03\0\0\0" + bytes(8) + b"\x01" + bytes(7) + b"\xff" * 8, "header does not end"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(content)
    with pytest.raises(EngineError, match=said):
        model_shape(file)


@pytest.mark.engine
def test_the_header_tells_what_the_model_needs(weights) -> None:
    shape = model_shape(weights("smollm2-135m"))
    # 30 layers x 3 key-value heads x 64 numbers x (K and V) x 2 bytes
    assert (shape.architecture, shape.context_tokens, shape.kv_bytes_per_token) == ("llama", 8192, 30 * 3 * 64 * 2 * 2)


def header(**keys: int) -> bytes:
    """A GGUF file without tensors: the architecture `toy`, and its numbers."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    rows = [text("general.architecture") + struct.pack("<I", 8) + text("toy")]
    rows += [text(f"toy.{name.replace('__', '.')}") + struct.pack("<II", 4, value) for name, value in keys.items()]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(rows)) + b"".join(rows)


def test_the_weights_of_a_split_model_are_all_its_files(tmp_path: Path) -> None:
    first = tmp_path / "toy-00001-of-00002.gguf"
    first.write_bytes(header(block_count=2, context_length=512, embedding_length=64, attention__head_count=4))
    with pytest.raises(EngineError, match=r"one of 2 files, but toy-00002-of-00002\.gguf is not beside it"):
        model_shape(first)
    first.with_name("toy-00002-of-00002.gguf").write_bytes(b"x" * 10_000)
    assert model_shape(first).weights_bytes == first.stat().st_size + 10_000


def test_the_memory_holds_two_windows_or_what_there_is() -> None:
    shape = ModelShape("llama", context_tokens=8192, weights_bytes=1 << 30, kv_bytes_per_token=1 << 16)
    assert cells_for(shape, "m", window_tokens=4096, available_bytes=16 << 30) == 8192
    # 1 GiB of weights, 0.25 of cells, 0.5 of buffers leave 0.125 GiB: half of it is 1,024 cells
    assert cells_for(shape, "m", window_tokens=4096, available_bytes=15 << 27) == 4096 + 1024
    with pytest.raises(ConfigError, match=r"needs 1.8 GiB of memory, but 1.0 GiB"):
        cells_for(shape, "m", window_tokens=4096, available_bytes=1 << 30)
    with pytest.raises(ConfigError, match=r"window_tokens is 9000, but m takes 1..8192"):
        cells_for(shape, "m", window_tokens=9000, available_bytes=16 << 30)
