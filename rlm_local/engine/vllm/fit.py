"""Does a model fit the GPUs, or the memory where there are none? Told with numbers before anything starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlm_local.engine.memory import available_bytes, gib
from rlm_local.engine.vllm.gpus import Gpu
from rlm_local.engine.vllm.launch import VllmSettings
from rlm_local.errors import ConfigError

BYTES_A_NUMBER = 2  # bfloat16, as keys and values are kept
ON_GPU_BYTES = 2 << 30  # what PyTorch, graphs and activations take of each GPU
ON_CPU_BYTES = 2 << 30  # what vLLM's processes take besides weights and cache


@dataclass(frozen=True, slots=True)
class Shape:
    """What a folder of safetensors tells of its model."""

    weights_bytes: int
    kv_bytes_per_token: int
    is_hybrid: bool  # some layers keep a state, not keys and values: how much is reused depends on vLLM's checkpoints


def read_shape(folder: Path) -> Shape:
    """Read config.json beside the weights. Raises ConfigError when it does not tell what is needed."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        heads = config.get("num_key_value_heads", config["num_attention_heads"])
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        kinds = config.get("layer_types") or ["full_attention"] * config["num_hidden_layers"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} does not describe a model: {error}") from error
    keeping = [kind for kind in kinds if "attention" in kind and "linear" not in kind]
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Shape(weights, 2 * len(keeping) * heads * head * BYTES_A_NUMBER, len(keeping) < len(kinds))


def require_fit(
    folder: Path,
    model: str,
    *,
    window_tokens: int,
    gpus: Sequence[Gpu],
    settings: VllmSettings,
    memory_bytes: int | None = None,
) -> Shape:
    """Return the model's shape. Raises ConfigError, with the numbers, when weights and one window cannot be held.

    memory_bytes: of the machine, for a vLLM on the CPU; by default what is available.
    """
    shape = read_shape(folder)
    window = shape.kv_bytes_per_token * window_tokens
    if gpus:
        over = shards(settings.arguments)
        if over > len(gpus):
            return shape  # on other machines too, which only vLLM can see
        each = (shape.weights_bytes + window) // over + ON_GPU_BYTES
        room = sorted((gpu.free_bytes for gpu in gpus), reverse=True)[over - 1]
        where = f"{over} GPU{'s' if over > 1 else ''}"
        needs = f"{gib(each)} on each of {where}" if over > 1 else f"{gib(each)} on a GPU"
        hint = f"--vllm-args='--tensor-parallel-size {_enough(shape, window, room)}' cuts it into pieces"
    else:
        each = shape.weights_bytes + window + ON_CPU_BYTES
        room = available_bytes() if memory_bytes is None else memory_bytes
        needs, hint = f"{gib(each)} of memory, for there is no GPU", "take a smaller model, or `--engine llama`"
    if each > room:
        raise ConfigError(
            f"{model} needs {needs} ({gib(shape.weights_bytes)} of weights, {gib(window)} of cache for one window of "
            f"{window_tokens} tokens), but {gib(room)} are free",
            hint=f"{hint}; or ask for a smaller --window",
        )
    return shape


def shards(arguments: Sequence[str]) -> int:
    """Return over how many GPUs the arguments cut each copy of the model."""
    return _number(arguments, "--tensor-parallel-size", "-tp") * _number(arguments, "--pipeline-parallel-size", "-pp")


def _enough(shape: Shape, window: int, room: int) -> int:
    over = 2
    while over < 64 and (shape.weights_bytes + window) // over + ON_GPU_BYTES > room:
        over *= 2
    return over


def _number(arguments: Sequence[str], *names: str) -> int:
    for at, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in names:
            text = value or (arguments[at + 1] if at + 1 < len(arguments) else "")
            if text.isdigit() and int(text):
                return int(text)
            raise ConfigError(f"{name} is {text!r}, but must be a whole number from 1 on")
    return 1
