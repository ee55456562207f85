"""Models of random weights, small enough to be made by a test, of the kinds whose memory is unlike a plain one.

Their vocabulary is the 256 bytes and an end token. Their words mean nothing, but each depends on all that the
architecture lets it see, so that a memory in which something is missing or left over says something else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.engine.toy_gguf import Value, gguf

WIDTH, HEADS, HIDDEN, LAYERS = 64, 2, 96, 4
WINDOW = 24  # tokens that a sliding layer sees
_BYTES = 256


class _Weights:
    """Tensors by name, all from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.tensors: dict[str, NDArray[np.float32]] = {}

    def matrix(self, name: str, out: int, width: int, gain: float = 1.0) -> None:
        drawn = self._random.normal(0, gain / np.sqrt(width), (out, width))
        self.tensors[f"{name}.weight"] = drawn.astype(np.float32)

    def ones(self, name: str, size: int, gain: float = 1.0) -> None:
        self.tensors[f"{name}.weight"] = np.full(size, gain, dtype=np.float32)

    def frame(self, norm: str = "output_norm", gain: float = 8) -> None:
        self.matrix("token_embd", _BYTES + 1, WIDTH, gain)
        self.matrix("output", _BYTES + 1, WIDTH, gain=4)
        self.ones(norm, WIDTH)

    def attention(self, at: str, gain: float = 2.0) -> None:
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            self.matrix(f"{at}.{name}", WIDTH, WIDTH, gain)

    def feed_forward(self, at: str) -> None:
        self.ones(f"{at}.ffn_norm", WIDTH)
        self.matrix(f"{at}.ffn_gate", HIDDEN, WIDTH)
        self.matrix(f"{at}.ffn_up", HIDDEN, WIDTH)
        self.matrix(f"{at}.ffn_down", WIDTH, HIDDEN)


def sliding(path: Path) -> Path:
    """A Gemma 2: every second layer sees only the last WINDOW tokens."""
    weights = _Weights(1)
    weights.frame(gain=3)
    del weights.tensors["output.weight"]  # Gemma's is its embedding, so layers must outweigh it or words repeat
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        weights.ones(f"{at}.attn_norm", WIDTH)
        weights.attention(at)
        weights.ones(f"{at}.post_attention_norm", WIDTH, 10)
        weights.feed_forward(at)
        weights.ones(f"{at}.post_ffw_norm", WIDTH, 10)
    return _write(path, "gemma2", weights, {"attention.sliding_window": WINDOW})


def recurrent(path: Path) -> Path:
    """A Mamba: no attention, only state."""
    weights, inner, state, rank, kernel = _Weights(2), 2 * WIDTH, 8, 4, 4
    weights.frame()
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        weights.ones(f"{at}.attn_norm", WIDTH)
        weights.matrix(f"{at}.ssm_in", 2 * inner, WIDTH, 2)
        weights.matrix(f"{at}.ssm_conv1d", inner, kernel)
        weights.tensors[f"{at}.ssm_conv1d.bias"] = np.zeros(inner, dtype=np.float32)
        weights.matrix(f"{at}.ssm_x", rank + 2 * state, inner, 2)
        weights.matrix(f"{at}.ssm_dt", inner, rank)
        weights.tensors[f"{at}.ssm_dt.bias"] = np.full(inner, -3, dtype=np.float32)
        weights.tensors[f"{at}.ssm_a"] = -np.tile(np.arange(1, state + 1, dtype=np.float32) / state, (inner, 1))
        weights.tensors[f"{at}.ssm_d"] = np.ones(inner, dtype=np.float32)
        weights.matrix(f"{at}.ssm_out", WIDTH, inner, 2)
    sizes: dict[str, Value] = {
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
        "attention.head_count": 0,
    }
    return _write(path, "mamba", weights, sizes)


def hybrid(path: Path) -> Path:
    """An LFM2: short convolutions, which keep a state, and attention, layer about."""
    weights, kernel = _Weights(3), 3
    weights.frame("token_embd_norm")
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        weights.ones(f"{at}.attn_norm", WIDTH)
        if layer % 2:
            weights.attention(at)
            weights.ones(f"{at}.attn_q_norm", WIDTH // HEADS)
            weights.ones(f"{at}.attn_k_norm", WIDTH // HEADS)
        else:
            weights.matrix(f"{at}.shortconv.conv", WIDTH, kernel)
            weights.matrix(f"{at}.shortconv.in_proj", 3 * WIDTH, WIDTH, 2)
            weights.matrix(f"{at}.shortconv.out_proj", WIDTH, WIDTH, 2)
        weights.feed_forward(at)
    per_layer = [HEADS * (layer % 2) for layer in range(LAYERS)]
    return _write(path, "lfm2", weights, {"shortconv.l_cache": kernel, "attention.head_count_kv": per_layer})


def _write(path: Path, architecture: str, weights: _Weights, sizes: dict[str, Value]) -> Path:
    own: dict[str, Value] = {
        "block_count": LAYERS,
        "context_length": 2048,
        "embedding_length": WIDTH,
        "feed_forward_length": HIDDEN,
        "attention.head_count": HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    words = [*map(_shown, range(_BYTES)), "<|end|>"]
    keys: dict[str, Value] = {"general.architecture": architecture}
    keys |= {f"{architecture}.{name}": value for name, value in (own | sizes).items()}
    keys |= {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [1] * _BYTES + [3],  # normal, and one control token
        "tokenizer.ggml.merges": ["\u0120 \u0120"],  # the list may not be empty; this one makes no token
        "tokenizer.ggml.eos_token_id": _BYTES,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{% for message in messages %}{{ message.content }}\n{% endfor %}",
    }
    path.write_bytes(gguf(keys, weights.tensors))
    return path


def _shown(byte: int) -> str:
    """Return how GPT-2's vocabulary writes a byte: itself where it can be seen, else from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return chr(byte) if byte in seen else chr(0x100 + sum(b not in seen for b in range(byte)))
