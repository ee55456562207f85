"""Where two events that should be the same are not."""

from __future__ import annotations

from collections.abc import Iterator

from rlm_local.events import Event
from rlm_local.trace.codec import encode_event
from rlm_local.types import JsonValue

_SHOWN_CHARS = 120


def differences(recorded: Event, now: Event) -> list[str]:
    """Return a line for each field that differs, with both values."""
    return [f"{where}: was {_short(was)}, is {_short(given)}" for where, was, given in _walk(recorded, now)]


def _walk(recorded: Event, now: Event) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    was, given = encode_event(recorded), encode_event(now)
    place = " ".join(f"{key} {was[key]}" for key in ("node", "turn", "number") if isinstance(was.get(key), int | str))
    yield from _differing(f"{was['event']} ({place})" if place else str(was["event"]), was, given)


def _differing(where: str, was: JsonValue, given: JsonValue) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    if isinstance(was, dict) and isinstance(given, dict) and was.keys() == given.keys():
        for key in was:
            yield from _differing(f"{where}.{key}", was[key], given[key])
    elif isinstance(was, list) and isinstance(given, list) and len(was) == len(given):
        for number, (one, other) in enumerate(zip(was, given, strict=True)):
            yield from _differing(f"{where}[{number}]", one, other)
    elif was != given:
        yield where, was, given


def _short(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}... ({len(text)} characters)"
