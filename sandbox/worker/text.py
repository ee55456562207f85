"""The documents' text as a str: a view of the sealed memory that the host hands over, not a copy of it.

A str of CPython is a header and, right behind it, its characters. So the memory file is mapped read-only at the
beginning of a page, and a header is written at the end of the page before: what Python then sees is a str like any
other. The header is that of a real str of the same kind, its length and addresses replaced, and only where every field
of the real one is what we take it for; any other Python gets a copy. Code that breaks this str breaks its own process.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from collections.abc import Callable

ENCODINGS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}
_WIDEST = {(1, True): "a", (1, False): "\xe9", (2, False): "\u20ac", (4, False): "\U0001f600"}
_SAMPLE_CHARS = 4099  # a number that no other field of a header is likely to hold
_COPIED_CHARS = 4096  # up to here a copy is quicker than two mappings
_REFERENCES = 1 << 29  # never the last one: nobody may free this str, or change it in place
_MAP_FIXED = 0x10
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_FAILED = ctypes.c_void_p(-1).value


def open_text(descriptor: int, chars: int, char_bytes: int, *, is_ascii: bool) -> str:
    """Return the text of a memory file that holds `chars` characters of so many bytes and a zero; closes it."""
    try:
        known = _headers.get((char_bytes, is_ascii))
        header = None if chars <= _COPIED_CHARS else known or _header_of(char_bytes, is_ascii)
        if header is None:
            return _copied(descriptor, chars * char_bytes, ENCODINGS[char_bytes])
        return _mapped(descriptor, chars, char_bytes, header)
    finally:
        os.close(descriptor)


def prepare() -> None:
    """Find out ahead of time what a str looks like, and how to map one."""
    for kind in _WIDEST:
        _headers[kind] = _header_of(*kind)
    _mmap()


def _copied(descriptor: int, count: int, encoding: str) -> str:
    """Decode a mapping, not a read: other jails may be reading the same file, and its position is theirs too."""
    with mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as view, memoryview(view) as data:
        return str(data[:count], encoding, "surrogatepass")


_made: list[Callable[..., int]] = []
_headers: dict[tuple[int, bool], _Header | None] = {}  # by bytes of a character, and whether it is ASCII


class _Header:
    """The 8-byte words in front of a str's characters."""

    def __init__(self, words: list[int], data: int) -> None:
        self._words = words
        self._data = data  # where the characters of that str begin

    def packed(self, chars: int, data: int) -> bytes:
        """Return the header for other characters."""
        replaced = {_SAMPLE_CHARS: chars, self._data: data}
        return struct.pack(f"={len(self._words)}q", _REFERENCES, *(replaced.get(w, w) for w in self._words[1:]))


def _header_of(char_bytes: int, is_ascii: bool) -> _Header | None:
    """Return the header of a real str of this kind; None where a field is not what CPython 3.11 to 3.13 have there."""
    sample = _WIDEST[char_bytes, is_ascii] * _SAMPLE_CHARS
    count = sys.getsizeof(sample) - char_bytes * (_SAMPLE_CHARS + 1)
    if sys.implementation.name != "cpython" or count % 8 or not 40 <= count <= 72:
        return None
    data = id(sample) + count
    if ctypes.string_at(data, char_bytes * _SAMPLE_CHARS) != sample.encode(ENCODINGS[char_bytes]):
        return None
    words = list(struct.unpack(f"={count // 8}q", ctypes.string_at(id(sample), count)))
    # References, type, length, and a hash that was not asked for yet.
    if words[:4] != [sys.getrefcount(sample) - 1, id(str), _SAMPLE_CHARS, -1]:
        return None
    return _Header(words, data)


def _mmap() -> Callable[..., int]:
    """Return mmap(2), made once."""
    if not _made:
        map_memory = ctypes.CDLL(None, use_errno=True).mmap
        map_memory.restype = ctypes.c_void_p
        map_memory.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        _made.append(map_memory)
    return _made[0]


def _mapped(descriptor: int, chars: int, char_bytes: int, header: _Header) -> str:
    map_memory = _mmap()
    count = char_bytes * (chars + 1)
    page = map_memory(None, mmap.PAGESIZE + count, _READ_WRITE, _ANONYMOUS, -1, 0)
    if page == _FAILED:
        raise MemoryError(f"no room to map {count} bytes of documents")
    data = page + mmap.PAGESIZE
    # Private: a kernel before 6.7 maps in no other way what is sealed against writing.
    if map_memory(data, count, mmap.PROT_READ, mmap.MAP_PRIVATE | _MAP_FIXED, descriptor, 0) != data:
        raise OSError(ctypes.get_errno(), f"mmap of {count} bytes of documents")
    packed = header.packed(chars, data)
    ctypes.memmove(data - len(packed), packed, len(packed))
    text: str = ctypes.cast(data - len(packed), ctypes.py_object).value
    return text
