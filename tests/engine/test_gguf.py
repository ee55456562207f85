"""What a model needs, known before it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_local.engine.llama.gguf import TemplateSource, model_header, model_shape
from rlm_local.errors import EngineError
from tests.engine.toy_gguf import gguf

TOY = {
    "general.architecture": "toy",
    "toy.block_count": 2,
    "toy.context_length": 512,
    "toy.embedding_length": 64,
    "toy.attention.head_count": 4,
}


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


def test_the_weights_of_a_split_model_are_all_its_files(tmp_path: Path) -> None:
    first = tmp_path / "toy-00001-of-00002.gguf"
    first.write_bytes(gguf(TOY))
    with pytest.raises(EngineError, match=r"one of 2 files, but toy-00002-of-00002\.gguf is not beside it"):
        model_shape(first)
    first.with_name("toy-00002-of-00002.gguf").write_bytes(b"x" * 10_000)
    assert model_shape(first).weights_bytes == first.stat().st_size + 10_000


@pytest.mark.parametrize(
    ("more", "cell_bytes", "state_bytes"),
    [
        ({}, 2 * 4 * (16 + 16) * 2, 0),  # 2 layers, 4 heads of 64 / 4, K and V, 16 bits
        ({"attention.head_count_kv": 1, "attention.key_length": 8}, 2 * 1 * (8 + 16) * 2, 0),
        ({"attention.head_count_kv": [0, 2], "shortconv.l_cache": 3}, 2 * (16 + 16) * 2, 1 * 64 * 2 * 4),
        ({"attention.head_count": 0, "wkv.head_size": 32}, 0, 2 * 64 * (2 + 32) * 4),
        (
            {"attention.head_count": 0, "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.conv_kernel": 4},
            0,
            2 * (3 * 128 + 16 * 128) * 4,
        ),
    ],
    ids=["attention", "own sizes", "hybrid", "rwkv", "mamba"],
)
def test_a_token_and_a_sequence_take_what_the_header_says(
    more: dict[str, int | list[int]], cell_bytes: int, state_bytes: int, tmp_path: Path
) -> None:
    file = tmp_path / "toy.gguf"
    file.write_bytes(gguf(TOY | {f"toy.{name}": value for name, value in more.items()}))
    shape = model_shape(file)
    assert (shape.kv_bytes_per_token, shape.state_bytes) == (cell_bytes, state_bytes)


def test_a_model_that_neither_attends_nor_recurs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "toy.gguf"
    file.write_bytes(gguf({name: value for name, value in TOY.items() if "head_count" not in name}))
    with pytest.raises(EngineError, match=r"toy.gguf does not say its toy.attention.head_count"):
        model_shape(file)


def test_the_chat_template_comes_with_the_texts_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "toy.gguf"
    words = {"tokenizer.ggml.tokens": ["a", "<s>", "</s>"], "tokenizer.ggml.bos_token_id": 1}
    file.write_bytes(gguf(TOY | words | {"tokenizer.chat_template": "{{ messages }}"}))
    assert model_header(file).template == TemplateSource("{{ messages }}", bos="<s>", eos="")
