"""Which of llama.cpp's two ways through quantised weights is the quicker one here."""

from __future__ import annotations

from pathlib import Path

from rlm_local.engine.llama.gguf import file_type

# llama_ftype of models whose weights both ways know: Q2_K, Q4_K small, Q4_K medium.
_BOTH_WAYS = frozenset({10, 14, 15})


def reorders_weights(weights: Path, system_info: str) -> bool:
    """Tell whether llama.cpp shall keep a second copy of the weights, re-ordered for its older kernels.

    system_info: what llama_print_system_info says of the processor.
    Without the copy, 8 tokens and more go through the tiled kernels, which use AVX512-VNNI. Measured there,
    1.5B Q4_K_M on 2 cores (medians): a prompt 128 tokens/s against 82 with the copy, 64 replies at a time 70
    against 59, 32 replies 55 against 52; but 4 replies 28 against 32, and one 21 against 23. Prompts are most
    of what a run computes; 0.9 GiB are saved besides.
    """
    return "AVX512_VNNI = 1" not in system_info or file_type(weights) not in _BOTH_WAYS
