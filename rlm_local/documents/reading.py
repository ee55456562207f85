"""A file becomes a text on a shelf, piece by piece: its bytes and its text are never both there as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from rlm_local.documents.decode import BINARY, Decoder, Kind, binary_kind, decode, wide_encoding
from rlm_local.texts import HeldText, Shelf

_CHUNK_BYTES = 1 << 18  # more than decode.HEAD_BYTES


@dataclass(slots=True)
class Reading:
    """What a file was found to be."""

    text: HeldText
    kind: Kind | None = None  # what it is when it is no text; the text is not whole then
    bytes: int = 0
    is_blank: bool = True  # nothing but white space, byte by byte, as ASCII has it
    is_blank_text: bool = True  # the same of its characters
    encoding: str = "UTF-8"
    replaced_bytes: int = 0  # see decode.Decoded
    first_replaced: int = -1
    first_byte: int = -1  # the value of that byte


def read_text(file: BinaryIO, shelf: Shelf) -> Reading:
    """Read a file to its end, or to where it is known to be no text. Raises OSError, and MemoryError.

    What begins with a mark of UTF-16 or UTF-32 is read as a whole: it is rare.
    """
    reading = Reading(HeldText())
    data = file.read(_CHUNK_BYTES)
    if (kind := binary_kind(data)) is not None:
        reading.kind = kind
        return reading
    if wide_encoding(data):
        _read_wide(data + file.read(), reading, shelf)
        return reading
    decoder = Decoder()
    while data:
        if b"\0" in data:
            reading.kind = BINARY
            return reading
        _put(decoder.feed(data), data, reading, shelf)
        data = file.read(_CHUNK_BYTES)
    _put(decoder.feed(b"", is_last=True), b"", reading, shelf)
    reading.replaced_bytes, reading.first_replaced = decoder.replaced_bytes, decoder.first_replaced
    reading.first_byte = decoder.first_byte
    return reading


def _read_wide(data: bytes, reading: Reading, shelf: Shelf) -> None:
    decoded = decode(data)
    _put(decoded.text, data, reading, shelf)
    reading.encoding = decoded.encoding
    reading.replaced_bytes, reading.first_replaced = decoded.replaced_bytes, decoded.first_replaced
    reading.first_byte = data[decoded.first_replaced] if decoded.replaced_bytes else -1


def _put(text: str, data: bytes, reading: Reading, shelf: Shelf) -> None:
    shelf.put(text, reading.text)
    reading.bytes += len(data)
    reading.is_blank = reading.is_blank and not data.strip()
    reading.is_blank_text = reading.is_blank_text and (not text or text.isspace())
