"""Bytes become text, or are named for what they are instead."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_UNDECODED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is not UTF-8

# UTF-32 comes first: its little-endian mark begins with that of UTF-16.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_CONVERT_PDF = "convert it to text first, e.g. with pdftotext"
_CONVERT_OFFICE = "save it as plain text first, e.g. with `pandoc -t plain`"
_CONVERT_IMAGE = "turn it into text first, e.g. with tesseract"
_UNPACK = "unpack it first and give the folder"

# Marks at a file's first byte, the longer and more telling ones first.
_MAGICS: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", _CONVERT_OFFICE),
    (b"\x89PNG\r\n\x1a\n", "an image (PNG)", _CONVERT_IMAGE),
    (b"\xff\xd8\xff", "an image (JPEG)", _CONVERT_IMAGE),
    (b"GIF87a", "an image (GIF)", _CONVERT_IMAGE),
    (b"GIF89a", "an image (GIF)", _CONVERT_IMAGE),
    (b"II*\x00", "an image (TIFF)", _CONVERT_IMAGE),
    (b"MM\x00*", "an image (TIFF)", _CONVERT_IMAGE),
    (b"\x7fELF", "a program (ELF)", "give text files only"),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", _UNPACK),
)
# A zip's first entries tell which format uses it as its envelope.
_ZIP_PARTS: tuple[tuple[bytes, str], ...] = (
    (b"word/", "a Word document (docx)"),
    (b"xl/", "a spreadsheet (xlsx)"),
    (b"ppt/", "a presentation (pptx)"),
    (b"[Content_Types].xml", "an Office document"),
    (b"opendocument", "an OpenDocument file"),
    (b"application/epub", "an e-book (epub)"),
)
HEAD_BYTES = 8192  # that tell a kind, unless it is told by a NUL behind them


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is when it is not text, and what its owner can do about it."""

    name: str  # with its article: "a PDF"
    repair: str


BINARY = Kind("a binary file", "give text files; if it is UTF-16, convert it with `iconv -f UTF-16 -t UTF-8`")


@dataclass(frozen=True, slots=True)
class Decoded:
    text: str  # every line ends in \n alone
    encoding: str  # as a person writes it: "UTF-8"
    replaced_bytes: int  # bytes that were no valid text, each now U+FFFD
    first_replaced: int  # where the first of them stands, bytes from the beginning; -1 when none


class Decoder:
    """Decodes UTF-8 that comes in pieces: with or without a mark, every byte that is not valid as one U+FFFD."""

    def __init__(self) -> None:
        self.replaced_bytes = 0
        self.first_replaced = -1  # see Decoded
        self.first_byte = -1  # its value
        self._left = b""  # of the bytes so far: a character, or a mark, that is not whole yet
        self._at = 0  # where _left begins
        self._return = ""  # a \r that a \n may follow

    def feed(self, data: bytes, *, is_last: bool = False) -> str:
        """Return more of the text. After the last bytes, which may be none, nothing of it is left."""
        data = self._left + data
        if self._at == 0:
            if not is_last and len(data) < len(codecs.BOM_UTF8):
                self._left = data
                return ""
            if data.startswith(codecs.BOM_UTF8):
                data, self._at = data[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
        try:
            text, used = codecs.utf_8_decode(data, "strict", is_last)
        except UnicodeDecodeError as error:
            if self.first_replaced < 0:
                self.first_replaced, self.first_byte = self._at + error.start, data[error.start]
            escaped, used = codecs.utf_8_decode(data, "surrogateescape", is_last)
            text, replaced = _UNDECODED.subn("\ufffd", escaped)
            self.replaced_bytes += replaced
        self._left, self._at = data[used:], self._at + used
        return self._newlines(text, is_last=is_last)

    def _newlines(self, text: str, *, is_last: bool) -> str:
        text = self._return + text
        self._return = "\r" if text.endswith("\r") and not is_last else ""
        return _one_newline(text.removesuffix(self._return) if self._return else text)


def binary_kind(data: bytes) -> Kind | None:
    """Return what `data` is when it is not text, or None for text.

    A NUL byte anywhere makes a file binary, unless it begins with a byte order mark of UTF-16 or UTF-32.
    """
    head = data[:HEAD_BYTES]
    if wide_encoding(head):
        return None
    if b"%PDF-" in head[:1024]:  # readers of the format allow some bytes before its mark
        return Kind("a PDF", _CONVERT_PDF)
    if head.startswith(b"PK\x03\x04"):
        for part, name in _ZIP_PARTS:
            if part in head:
                return Kind(name, _CONVERT_OFFICE)
        return Kind("a zip archive", _UNPACK)
    for magic, name, repair in _MAGICS:
        if head.startswith(magic):
            return Kind(name, repair)
    return BINARY if b"\0" in data else None


def decode(data: bytes) -> Decoded:
    """Return the text of a file that is not binary; never raises.

    UTF-8 unless a byte order mark says UTF-16 or UTF-32; the mark itself is left out. Every byte that is not
    valid becomes one U+FFFD. \\r\\n and lone \\r become \\n, so offsets and line numbers are those of the text as
    a model reads it.
    """
    if wide := wide_encoding(data):
        text, replaced, first = _decode_wide(data, wide)
        return Decoded(_one_newline(text), wide.upper(), replaced, first)
    decoder = Decoder()
    text = decoder.feed(data, is_last=True)
    return Decoded(text, "UTF-8", decoder.replaced_bytes, decoder.first_replaced)


def wide_encoding(data: bytes) -> str:
    """Return the encoding that a byte order mark names, UTF-8's apart; "" for none."""
    return next((encoding for mark, encoding in _WIDE_MARKS if data.startswith(mark)), "")


def _one_newline(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _decode_wide(data: bytes, encoding: str) -> tuple[str, int, int]:
    try:
        return data.decode(encoding), 0, -1
    except UnicodeDecodeError as error:
        first = error.start
    text = data.decode(encoding, "replace")
    unit = 2 if encoding == "utf-16" else 4
    return text, unit * text.count("\ufffd"), first
