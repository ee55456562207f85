"""Frames between host and jail: a big-endian u32 length, then one strict UTF-8 JSON object.

This one file is read on both sides of the border (policy.py puts it into the jail), so it imports the standard
library only and knows nothing of the operations that the frames carry. The host reads what a hostile process
wrote: every bound is checked before anything of that size is allocated, and nothing is ever evaluated.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping

TYPE_CHECKING = False  # `typing` is a fifth of what a starting worker would import
if TYPE_CHECKING:
    from typing import NoReturn, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

HEADER_BYTES = 4
FROM_JAIL_BYTES = 4 << 20  # a prompt above this fits no window anyway
FROM_HOST_BYTES = 16 << 20
MAX_VALUES = 100_000  # from the jail: more would hold up whoever reads them, for nothing that anybody would read
MAX_DEPTH = 32  # levels of lists and objects, the frame itself being the first
_NUMBER_CHARS = 32  # Python writes no float with more
MAX_INT = 1 << 53  # beyond it two JSON readers may see two numbers


class WireError(Exception):
    """A frame that the protocol does not allow; whoever sent it is not to be listened to any further."""


def encode(frame: Mapping[str, object], *, max_bytes: int) -> bytes:
    """Return header and payload of one frame. Raises WireError when the payload is over max_bytes.

    A lone surrogate becomes "?": JSON could spell it, UTF-8 cannot, and the other side would refuse it.
    """
    payload = _ENCODER.encode(frame).encode("utf-8", "replace")
    if len(payload) > max_bytes:
        raise WireError(f"a frame of {len(payload)} bytes, but at most {max_bytes} may be sent")
    return struct.pack(">I", len(payload)) + payload


def payload_bytes(header: bytes, *, max_bytes: int) -> int:
    """Return the payload's length from its 4-byte header. Raises WireError when it is 0 or over max_bytes."""
    (count,) = struct.unpack(">I", header)
    if not 0 < count <= max_bytes:
        raise WireError(f"a frame of {count} bytes was announced, but 1..{max_bytes} are allowed")
    return int(count)


def count_values(payload: bytes) -> int:
    """Return at least as many as there are values in a payload, and no more than it has commas and brackets.

    Told from the bytes alone, in a few ms at most: reading a frame takes up to a second where every byte is a value.
    """
    marks = _marks(payload)
    if marks > MAX_VALUES:  # in texts perhaps: only what stands outside of quotes counts
        bare = payload.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is escaped, pairs of backslashes first
        if bare.count(b'"') > 4 * MAX_VALUES:  # two for each text, and each value may have a name
            return marks
        marks = _marks(b"".join(bare.split(b'"')[::2]))
    return marks


def _marks(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def decode(payload: bytes, *, max_values: int | None = None) -> dict[str, Json]:
    """Return the object that a payload spells. Raises WireError for whatever is not strict JSON within bounds."""
    if max_values is not None and (count := count_values(payload)) > max_values:
        raise WireError(f"a frame of up to {count} values, but at most {max_values} are allowed")
    try:
        frame = _DECODER.decode(payload.decode("utf-8"))
    except RecursionError as error:
        raise WireError(f"a frame nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:  # not UTF-8, not JSON, or a number of too many digits
        raise WireError(f"a frame that is not strict JSON: {error}") from error
    if not isinstance(frame, dict):
        raise WireError(f"a frame must be an object, not {type(frame).__name__}")
    _check_bounds(frame, has_escapes=b"\\u" in payload)
    return frame


def _object_without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise WireError("an object that names a key twice")
    return members


def _integer(digits: str) -> int:
    # By length first: a thousand digits take a thousand times as long to read as a hundred.
    if len(digits) > _NUMBER_CHARS or abs(number := int(digits)) > MAX_INT:
        raise WireError(f"an integer beyond {MAX_INT}")
    return number


def _float(digits: str) -> float:
    if len(digits) > _NUMBER_CHARS or not math.isfinite(number := float(digits)):
        raise WireError("a number that no float can hold")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise WireError(f"{name} is not JSON")


def _check_bounds(frame: dict[str, Json], *, has_escapes: bool) -> None:
    """Walk a frame without recursion: depth, and surrogates where escapes could spell them."""
    pending: list[tuple[dict[str, Json] | list[Json], int]] = [(frame, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, dict):
            if has_escapes and not all(map(_is_utf8, value)):
                raise WireError("a text with a lone surrogate")
            items: Iterable[Json] = value.values()
        else:
            items = value
        for item in items:
            if isinstance(item, dict | list):
                if depth == MAX_DEPTH:
                    raise WireError(f"a frame nested deeper than {MAX_DEPTH} levels")
                pending.append((item, depth + 1))
            elif has_escapes and isinstance(item, str) and not _is_utf8(item):
                raise WireError("a text with a lone surrogate")


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# Made once: to make them for each frame takes longer than most frames do.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_refuse_constant,
)
