"""What a model needs, known before it is loaded."""

from __future__ import annotations

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


def test_the_memory_holds_two_windows_or_what_there_is() -> None:
    shape = ModelShape("llama", context_tokens=8192, weights_bytes=1 << 30, kv_bytes_per_token=1 << 16)
    assert cells_for(shape, "m", window_tokens=4096, available_bytes=16 << 30) == 8192
    # 1 GiB of weights, 0.25 of cells, 0.5 of buffers leave 0.125 GiB: half of it is 1,024 cells
    assert cells_for(shape, "m", window_tokens=4096, available_bytes=15 << 27) == 4096 + 1024
    with pytest.raises(ConfigError, match=r"needs 1.8 GiB of memory, but 1.0 GiB"):
        cells_for(shape, "m", window_tokens=4096, available_bytes=1 << 30)
    with pytest.raises(ConfigError, match=r"window_tokens is 9000, but m takes 1..8192"):
        cells_for(shape, "m", window_tokens=9000, available_bytes=16 << 30)
