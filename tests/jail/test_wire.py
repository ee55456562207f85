"""Frames: what we write is what they read, and what nobody of ours would write is refused."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_local.jail import wire

# These machines are shared: a slow draw is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

MAX = wire.FROM_JAIL_BYTES

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-wire.MAX_INT, wire.MAX_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
frames = st.dictionaries(texts, values)


def payload_of(data: bytes) -> bytes:
    assert wire.payload_bytes(data[: wire.HEADER_BYTES], max_bytes=MAX) == len(data) - wire.HEADER_BYTES
    return data[wire.HEADER_BYTES :]


@patient
@given(frames)
def test_a_frame_comes_out_as_it_went_in(frame: dict[str, wire.Json]) -> None:
    assert wire.decode(payload_of(wire.encode(frame, max_bytes=MAX))) == frame


@patient
@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_wire_error(payload: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.decode(payload), dict)


@patient
@given(frames, st.data())
def test_a_frame_with_one_byte_changed_is_a_frame_or_a_wire_error(
    frame: dict[str, wire.Json], data: st.DataObject
) -> None:
    payload = bytearray(payload_of(wire.encode(frame, max_bytes=MAX)))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.decode(bytes(payload)), dict)


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b'"text"',
        b"1",
        b"",
        b'{"a":1',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":1,"a":2}',
        b'{"b":{"a":1,"a":2}}',
        b'{"a":9007199254740993}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":' + b"9" * 10_000 + b"}",
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"a":' + b"[" * 1_000_000,
        b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)
def test_what_is_not_strict_json_is_refused(payload: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(payload)


@pytest.mark.parametrize(
    ("payload", "accepted"),
    [
        (b'{"a":[' + b"1," * 99_997 + b"1]}", True),
        (b'{"a":[' + b"1," * 100_000 + b"1]}", False),
        (b'{"a":[' + b"[]," * 50_001 + b"1]}", False),
        (b'{"a":[' + b'"",' * 1_000_000 + b"1]}", False),
        (b'{"a":"' + b",[{" * 1_000_000 + b'"}', True),  # text is one value, whatever is in it
        (b'{"a":"' + b'\\",' * 1_000_000 + b'"}', True),
        (b'{"a":"' + b"\\\\," * 1_000_000 + b'"}', True),
        (b'{"a":["' + b'\\\\","' * 100_001 + b'"]}', False),
        (b'{"a":' + b"9" * 4_000_000 + b"}", False),
        (b'{"a":' + b"0.1" + b"0" * 4_000 + b"}", False),
    ],
)
def test_a_frame_holds_so_many_values_and_no_more(payload: bytes, accepted: bool) -> None:
    if accepted:
        assert wire.decode(payload, max_values=wire.MAX_VALUES)
    else:
        with pytest.raises(wire.WireError):
            wire.decode(payload, max_values=wire.MAX_VALUES)


@patient
@given(frames)
def test_values_are_never_counted_short(frame: dict[str, wire.Json]) -> None:
    pending: list[wire.Json] = [frame]
    count = 0
    while pending:
        value = pending.pop()
        count += 1
        pending += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    # The first value of a list or an object stands behind its bracket, so that brackets count for it.
    assert wire.count_values(payload_of(wire.encode(frame, max_bytes=MAX))) >= count // 2


def test_the_deepest_allowed_frame_is_accepted() -> None:
    lists = wire.MAX_DEPTH - 1  # the object around them is a level too
    assert wire.decode(b'{"a":' + b"[" * lists + b"]" * lists + b"}")


@pytest.mark.parametrize(
    ("announced", "accepted"), [(0, False), (1, True), (MAX, True), (MAX + 1, False), (2**32 - 1, False)]
)
def test_a_length_is_checked_before_anything_is_read(announced: int, accepted: bool) -> None:
    header = struct.pack(">I", announced)
    if accepted:
        assert wire.payload_bytes(header, max_bytes=MAX) == announced
    else:
        with pytest.raises(wire.WireError, match=str(announced)):
            wire.payload_bytes(header, max_bytes=MAX)


def test_a_frame_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(wire.WireError, match="at most 100"):
        wire.encode({"a": "x" * 100}, max_bytes=100)


def test_a_lone_surrogate_is_sent_as_a_question_mark() -> None:
    assert wire.decode(payload_of(wire.encode({"a": "x\ud800"}, max_bytes=MAX))) == {"a": "x?"}
