"""Values on their way out of the jail: whatever a cell answers with becomes plain JSON."""

from __future__ import annotations

import json
import math

from rlm_local.jail import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_BYTES = 1 << 20
MAX_VALUES = wire.MAX_VALUES - 100  # the frame around the answer has some of its own
_MAX_INT = 1 << 53  # as in wire.py
_MAX_DEPTH = 24  # below wire.py's, which counts the frame around the value too


def to_json(value: object) -> Json:
    """Return `value` as JSON: tuples and sets become lists, anything without a JSON form its str().

    Raises ValueError when it is over MAX_BYTES as JSON text, or holds over MAX_VALUES values.
    """
    plain = _plain(value, 0)
    data = json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    if len(data) > MAX_BYTES:
        raise ValueError(f"the answer is {len(data)} bytes, but at most {MAX_BYTES} may leave; answer with less")
    if (count := wire.count_values(data)) > MAX_VALUES:
        raise ValueError(f"the answer has {count} values, but at most {MAX_VALUES} may leave; answer with less")
    return plain


def _plain(value: object, depth: int) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value) if abs(value) <= _MAX_INT else str(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if depth >= _MAX_DEPTH:
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return [_plain(item, depth + 1) for item in _in_order(value)]
    return str(value)


def _in_order(items: set[object] | frozenset[object]) -> list[object]:
    try:
        return sorted(items)  # type: ignore[type-var]  # a set of mixed kinds has no order of its own
    except TypeError:
        return sorted(items, key=repr)
