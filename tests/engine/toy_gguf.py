"""GGUF files that a test makes up: keys, and tensors of 32-bit floats."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Value = str | bool | int | float | list[str] | list[int] | list[float] | list[bool]
Tensors = Mapping[str, NDArray[np.float32]]

_ALIGNMENT = 32
_LAYOUTS = {str: 8, bool: 7, int: 4, float: 6}


def gguf(keys: Mapping[str, Value], tensors: Tensors | None = None) -> bytes:
    """Return a file of version 3. An int becomes a u32, or an i32 in a list, and a float an f32.

    A tensor's last axis is what llama.cpp calls its first.
    """
    tensors = tensors or {}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    head += b"".join(_text(name) + _value(value) for name, value in keys.items())
    offset, data = 0, b""
    for name, array in tensors.items():
        axes = array.shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, 0, offset)
        raw = array.astype("<f4").tobytes()
        data += raw + bytes(-len(raw) % _ALIGNMENT)
        offset = len(data)
    return head + bytes(-len(head) % _ALIGNMENT) + data


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Value) -> bytes:
    if isinstance(value, list):
        kind = 5 if type(value[0]) is int else _LAYOUTS[type(value[0])]
        return struct.pack("<IIQ", 9, kind, len(value)) + b"".join(map(_scalar, value))
    return struct.pack("<I", _LAYOUTS[type(value)]) + _scalar(value)


def _scalar(value: str | float) -> bytes:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return struct.pack("<?", value)
    return struct.pack("<I" if isinstance(value, int) else "<f", value)
