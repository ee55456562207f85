"""The header of a GGUF file, read without llama.cpp: what a model needs, before it is loaded.

Source: the GGUF specification, version 3 (ggml, docs/gguf.md): magic, version, tensor count, key count, then
key, type and value of each key, all little-endian.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from rlm_local.errors import EngineError

Value: TypeAlias = "int | float | bool | str | list[Value]"

# By type number; 8 is a string and 9 an array.
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_STRING_BYTES = 1 << 24  # a chat template has thousands; more means that we are lost in the file
_SPLIT = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf")
_CELL_BYTES = 2  # K and V are kept as 16-bit floats


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What decides how much memory a model takes."""

    architecture: str
    context_tokens: int  # longest sequence that the model was trained for
    weights_bytes: int  # of all its files
    kv_bytes_per_token: int  # one cell of attention memory, all layers, K and V

    def memory_bytes(self, cells: int) -> int:
        """Return what the engine holds with room for `cells` tokens; its own buffers come on top (~0.2 GiB)."""
        return self.weights_bytes + cells * self.kv_bytes_per_token


def model_shape(weights: Path) -> ModelShape:
    """Read a GGUF file's header. Raises EngineError, in one sentence, for a file that has none."""
    try:
        with weights.open("rb") as file:
            keys = _keys(file)
    except OSError as error:
        raise EngineError(f"{weights} cannot be read: {error.strerror}") from error
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise EngineError(f"{weights.name} is truncated or damaged: its header does not end") from error
    except KeyError as error:
        raise EngineError(f"{weights.name} is damaged: unknown value type {error}") from error
    except ValueError as error:
        raise EngineError(f"{weights.name} {error}") from error
    return _shape(keys, weights)


def _shape(keys: dict[str, Value], weights: Path) -> ModelShape:
    architecture = str(keys.get("general.architecture", ""))

    def number(name: str) -> int:
        value = keys.get(f"{architecture}.{name}")
        if not isinstance(value, int):
            raise EngineError(f"{weights.name} does not say its {architecture}.{name}")
        return value

    layers = number("block_count")
    per_layer = keys.get(f"{architecture}.attention.head_count_kv", keys.get(f"{architecture}.attention.head_count"))
    # One number for all layers, or a list with one each (0 for a layer without attention).
    heads = [h for h in per_layer if isinstance(h, int)] if isinstance(per_layer, list) else [per_layer] * layers
    head_size = number("embedding_length") // number("attention.head_count")
    key_size = keys.get(f"{architecture}.attention.key_length", head_size)
    value_size = keys.get(f"{architecture}.attention.value_length", head_size)
    if not (isinstance(key_size, int) and isinstance(value_size, int)):
        raise EngineError(f"{weights.name} is damaged: its head sizes are {key_size!r} and {value_size!r}")
    return ModelShape(
        architecture=architecture,
        context_tokens=number("context_length"),
        weights_bytes=sum(shard.stat().st_size for shard in _shards(weights)),
        kv_bytes_per_token=sum(h for h in heads if isinstance(h, int)) * (key_size + value_size) * _CELL_BYTES,
    )


def _shards(weights: Path) -> list[Path]:
    """Return all files of a model that is split as gguf-split does, name-00001-of-00003.gguf; else the one.

    Raises EngineError when one is missing: llama.cpp loads them all.
    """
    split = _SPLIT.fullmatch(weights.name)
    if split is None:
        return [weights]
    count = int(split["count"])
    shards = [weights.with_name(f"{split['stem']}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]
    for shard in shards:
        if not shard.is_file():
            raise EngineError(f"{weights.name} is one of {count} files, but {shard.name} is not beside it")
    return shards


def _keys(file: BinaryIO) -> dict[str, Value]:
    if file.read(4) != b"GGUF":
        raise ValueError("is not a GGUF file")
    version, _, count = _unpack(file, "<IQQ")
    if version not in (2, 3):
        raise ValueError(f"is GGUF version {version}, this build reads 2 and 3")
    keys: dict[str, Value] = {}
    for _ in range(count):
        name = _string(file)
        (kind,) = _unpack(file, "<I")
        keys[name] = _value(file, kind)
    return keys


def _value(file: BinaryIO, kind: int) -> Value:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        value: Value = _unpack(file, _SCALARS[kind])[0]
        return value
    item, length = _unpack(file, "<IQ")
    if item in (_STRING, _ARRAY):
        return [_value(file, item) for _ in range(length)]
    return list(_unpack(file, f"<{length}{_SCALARS[item][1]}"))


def _string(file: BinaryIO) -> str:
    (size,) = _unpack(file, "<Q")
    if size > _MAX_STRING_BYTES:
        raise OverflowError(size)
    raw = file.read(size)
    if len(raw) < size:
        raise struct.error(size)
    return raw.decode("utf-8", "replace")


def _unpack(file: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
