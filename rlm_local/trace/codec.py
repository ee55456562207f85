"""Events to JSON objects and back, exactly.

An event's fields stand at the top of its object beside "event", its name in snake case. A field that may hold one
of several nouns (an action) is an object with "type". Numbers that JSON does not know (nan, inf) are
{"$float": "nan"}; an answer's own object whose one key begins with "$" gets one more "$" in front.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from rlm_local.events import Event
from rlm_local.types import JsonObject, JsonValue

_MOST = 1 << 53  # of a whole number; nothing that is counted comes near, and other readers of JSON end there


class DecodeError(ValueError):
    """A JSON value is not what its event says; the message tells where and what. Never leaves trace/."""


@dataclass(frozen=True, slots=True)
class _Codec:
    encode: Callable[[Any], JsonValue]
    decode: Callable[[JsonValue], Any]


class _Anything:
    """Stands for JsonValue while annotations are looked up: its own alias is a string that names itself."""


def encode_event(event: Event) -> JsonObject:
    """Return an event as a JSON object: its name under "event", then its fields."""
    return {"event": _snake(type(event).__name__), **_encode_noun(event)}


def decode_event(obj: Mapping[str, JsonValue]) -> Event:
    """Return the event that encode_event made this object of.

    Raises DecodeError for an unknown event and for fields that are missing, unknown or of another type.
    """
    name = obj.get("event")
    cls = _EVENT_BY_NAME.get(name) if isinstance(name, str) else None
    if cls is None:
        raise DecodeError(f"event is {name!r}, but must be one of {', '.join(_EVENT_BY_NAME)}")
    event: Event = _dataclass(cls).decode({key: value for key, value in obj.items() if key != "event"})
    return event


@cache
def _codec(hint: Any) -> _Codec:
    """Return how a field of this type is written and read."""
    if hint is _Anything:
        return _Codec(_encode_anything, _decode_anything)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    if hint in (str, int, bool):
        return _Codec(lambda value: value, _plain(hint))
    if hint is float:
        return _Codec(_encode_anything, _decode_float)
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _tuple(args[0])
    if origin in (Union, UnionType):
        return _union(args)
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return _dataclass(hint)
    raise TypeError(f"a trace has no form for {hint!r}; give it one in {__name__}")


@cache
def _dataclass(cls: type) -> _Codec:
    hints = get_type_hints(cls, localns={"JsonValue": _Anything})
    codecs = {field.name: _codec(hints[field.name]) for field in fields(cls)}

    def encode(value: Any) -> JsonValue:
        return {name: codec.encode(getattr(value, name)) for name, codec in codecs.items()}

    def decode(value: JsonValue) -> Any:
        if not isinstance(value, dict) or value.keys() != codecs.keys():
            found = ", ".join(value) if isinstance(value, dict) else type(value).__name__
            raise DecodeError(f"{cls.__name__} needs {', '.join(codecs)}; found {found}")
        try:
            return cls(**{name: _within(name, codec, value[name]) for name, codec in codecs.items()})
        except DecodeError as error:
            raise DecodeError(f"{cls.__name__}.{error}") from error

    return _Codec(encode, decode)


def _encode_noun(noun: Any) -> JsonObject:
    cls: Any = type(noun)
    encoded = _dataclass(cls).encode(noun)
    assert isinstance(encoded, dict)
    return encoded


def _within(name: str, codec: _Codec, value: JsonValue) -> Any:
    try:
        return codec.decode(value)
    except DecodeError as error:
        raise DecodeError(f"{name}: {error}") from error


def _plain(cls: type) -> Callable[[JsonValue], Any]:
    def decode(value: JsonValue) -> Any:
        # type() and not isinstance: True is an int to isinstance.
        if type(value) is not cls:
            raise DecodeError(f"{value!r} is not of type {cls.__name__}")
        if isinstance(value, int) and abs(value) > _MOST:
            raise DecodeError(f"a number is over {_MOST}")
        return value

    return decode


def _enum(cls: type[Enum]) -> _Codec:
    def decode(value: JsonValue) -> Enum:
        try:
            return cls(value)
        except ValueError as error:
            raise DecodeError(f"{value!r} is none of {', '.join(str(member.value) for member in cls)}") from error

    return _Codec(lambda member: member.value, decode)


def _tuple(item: Any) -> _Codec:
    codec = _codec(item)

    def decode(value: JsonValue) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise DecodeError(f"{value!r} is not a list")
        return tuple(codec.decode(element) for element in value)

    return _Codec(lambda values: [codec.encode(value) for value in values], decode)


def _union(members: tuple[Any, ...]) -> _Codec:
    """One noun or None is written as it is; of several nouns each is an object with its "type"."""
    nouns = [member for member in members if member is not NoneType]
    optional = len(nouns) < len(members)
    inner = _codec(nouns[0]) if len(nouns) == 1 else _tagged(nouns)

    def decode(value: JsonValue) -> Any:
        return None if optional and value is None else inner.decode(value)

    return _Codec(lambda value: None if value is None else inner.encode(value), decode)


def _tagged(nouns: list[type]) -> _Codec:
    by_tag = {_snake(noun.__name__): noun for noun in nouns}

    def encode(value: Any) -> JsonValue:
        return {"type": _snake(type(value).__name__), **_encode_noun(value)}

    def decode(value: JsonValue) -> Any:
        tag = value.get("type") if isinstance(value, dict) else None
        if not (isinstance(value, dict) and isinstance(tag, str) and tag in by_tag):
            raise DecodeError(f"type is {tag!r}, but must be one of {', '.join(by_tag)}")
        return _dataclass(by_tag[tag]).decode({key: item for key, item in value.items() if key != "type"})

    return _Codec(encode, decode)


def _decode_float(value: JsonValue) -> float:
    decoded = _decode_anything(value)
    if isinstance(decoded, bool) or not isinstance(decoded, int | float):
        raise DecodeError(f"{value!r} is not a number")
    return float(decoded)


def _encode_anything(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, list):
        return [_encode_anything(element) for element in value]
    if isinstance(value, dict):
        encoded = {key: _encode_anything(element) for key, element in value.items()}
        return {f"${key}": element for key, element in encoded.items()} if _is_marked(value) else encoded
    return value


def _decode_anything(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_decode_anything(element) for element in value]
    if not isinstance(value, dict):
        return value
    if not _is_marked(value):
        return {key: _decode_anything(element) for key, element in value.items()}
    ((key, element),) = value.items()
    if key != "$float":
        return {key[1:]: _decode_anything(element)}
    if element not in ("nan", "inf", "-inf"):
        raise DecodeError(f"$float is {element!r}, but must be nan, inf or -inf")
    return float(str(element))


def _is_marked(value: Mapping[str, JsonValue]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith("$")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


_EVENT_BY_NAME: dict[str, type] = {_snake(cls.__name__): cls for cls in get_args(Event)}
