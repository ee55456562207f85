"""The header of a GGUF file, read without llama.cpp: what a model needs, before it is loaded.

Source: the GGUF specification, version 3 (ggml, docs/gguf.md): magic, version, tensor count, key count, then
key, type and value of each key, all little-endian.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
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
_STATE_BYTES = 4  # recurrent state is kept as 32-bit floats


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What decides how much memory a model takes."""

    architecture: str
    context_tokens: int  # longest sequence that the model was trained for
    weights_bytes: int  # of all its files
    kv_bytes_per_token: int  # one cell of attention memory, all layers, K and V; at most that much
    state_bytes: int = 0  # recurrent state of one sequence, all layers that have one


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """What a chat is rendered with."""

    jinja: str
    bos: str  # the texts that templates call bos_token and eos_token
    eos: str


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """What can be told of a model from the first bytes of its file."""

    shape: ModelShape
    template: TemplateSource | None  # None for weights that carry none


def model_header(weights: Path) -> ModelHeader:
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
    return ModelHeader(_shape(keys, weights), _template(keys))


def model_shape(weights: Path) -> ModelShape:
    """Return the part of model_header that decides about memory. Raises as it does."""
    return model_header(weights).shape


def _template(keys: dict[str, Value]) -> TemplateSource | None:
    source, words = keys.get("tokenizer.chat_template"), keys.get("tokenizer.ggml.tokens")
    if not isinstance(source, str):
        return None

    def word(name: str) -> str:
        token = keys.get(f"tokenizer.ggml.{name}_token_id")
        named = isinstance(words, list) and isinstance(token, int) and 0 <= token < len(words)
        return str(words[token]) if named else ""  # type: ignore[index]  # `named` has looked

    return TemplateSource(source, word("bos"), word("eos"))


class _Numbers:
    """The numbers of one model's own keys, one for the model or one for each layer."""

    def __init__(self, keys: dict[str, Value], weights: Path) -> None:
        self.architecture = str(keys.get("general.architecture", ""))
        self._keys = keys
        self._file = weights.name

    def one(self, name: str, default: int | None = None) -> int:
        value = self._keys.get(f"{self.architecture}.{name}", default)
        if isinstance(value, int):
            return value
        raise EngineError(f"{self._file} does not say its {self.architecture}.{name}")

    def each(self, name: str, layers: int) -> list[int] | None:
        """Return a number for each layer, or None where the file has none."""
        value = self._keys.get(f"{self.architecture}.{name}")
        if value is None:
            return None
        return [
            number for number in (value if isinstance(value, list) else [value] * layers) if isinstance(number, int)
        ]


def _shape(keys: dict[str, Value], weights: Path) -> ModelShape:
    numbers = _Numbers(keys, weights)
    layers, width = numbers.one("block_count"), numbers.one("embedding_length")
    state = _state_numbers(numbers, width)
    heads = numbers.each("attention.head_count", layers)
    if heads is None and not state:
        numbers.one("attention.head_count")  # says that it is missing
    kv_heads = numbers.each("attention.head_count_kv", layers) or heads or [0] * layers
    head_size = width // (max(heads or [0]) or width)
    sizes = numbers.one("attention.key_length", head_size) + numbers.one("attention.value_length", head_size)
    # Where the file does not say which layers attend and which recur, each is taken to do both.
    recurring = sum(not h for h in kv_heads) or layers
    return ModelShape(
        architecture=numbers.architecture,
        context_tokens=numbers.one("context_length"),
        weights_bytes=sum(shard.stat().st_size for shard in _shards(weights)),
        kv_bytes_per_token=sum(kv_heads) * sizes * _CELL_BYTES,
        state_bytes=recurring * state * _STATE_BYTES,
    )


def _state_numbers(numbers: _Numbers, width: int) -> int:
    """Return how many numbers one recurrent layer keeps of a sequence; 0 for a model that only attends.

    Source: llama.cpp, src/llama-hparams.cpp (n_embd_r, n_embd_s), for Mamba, RWKV and short convolutions.
    """
    if head := numbers.one("wkv.head_size", 0):
        return width * (numbers.one("token_shift_count", 2) + head)
    if kernel := numbers.one("shortconv.l_cache", 0):
        return width * (kernel - 1)
    inner, state = numbers.one("ssm.inner_size", 0), numbers.one("ssm.state_size", 0)
    groups, kernel = numbers.one("ssm.group_count", 0), numbers.one("ssm.conv_kernel", 0)
    return max(0, kernel - 1) * (inner + 2 * groups * state) + inner * state


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


def file_type(weights: Path) -> int | None:
    """Return how most of the weights are quantised, by llama.cpp's number; None where the header does not say.

    Reads no further than it must: the vocabulary, most of a header, comes after.
    """
    try:
        with weights.open("rb") as file:
            found = next((value for name, value in _entries(file) if name == "general.file_type"), None)
    except (OSError, struct.error, UnicodeDecodeError, OverflowError, KeyError, ValueError):
        return None  # whoever loads the file says what is wrong with it
    return found if isinstance(found, int) else None


def _keys(file: BinaryIO) -> dict[str, Value]:
    return dict(_entries(file))


def _entries(file: BinaryIO) -> Iterator[tuple[str, Value]]:
    if file.read(4) != b"GGUF":
        raise ValueError("is not a GGUF file")
    version, _, count = _unpack(file, "<IQQ")
    if version not in (2, 3):
        raise ValueError(f"is GGUF version {version}, this build reads 2 and 3")
    for _ in range(count):
        name = _string(file)
        (kind,) = _unpack(file, "<I")
        yield name, _value(file, kind)


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
