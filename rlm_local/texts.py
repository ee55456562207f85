"""Long texts outside of Python's heap: on a shelf while they are read in, then in one memory that nobody can change.

Documents may be most of the memory that a run takes, so there is one copy of them: the sealed memory that the run's
jail maps. The host cuts what it needs out of the same memory. That is as good as a copy of its own: the kernel lets
nobody write to a sealed memory file, neither the jail nor us, and a jail is given nothing that could unseal it.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rlm_local.types import Text

# The bytes that CPython itself keeps for a str whose widest character takes so many of them.
ENCODINGS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}

_MFD_NOEXEC_SEAL = 0x8  # Linux 6.3
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_CHUNK_CHARS = 1 << 20
_SCANNED_CHARS = 1 << 16  # looked through at a time
_NEAR_CHARS = 1 << 12  # read at once where less is asked for: who asks for one character soon asks for the next
_SLAB_BYTES = 1 << 20


class Slices:
    """What a text that is no str has in common with one: see types.Text. Below it are __len__ and cut()."""

    def __len__(self) -> int:
        raise NotImplementedError

    def cut(self, start: int, end: int) -> str:
        """Return the characters start..end; 0 <= start <= end <= len(self)."""
        raise NotImplementedError

    def __getitem__(self, key: slice) -> str:
        start, end, step = key.indices(len(self))
        if step != 1:
            raise ValueError(f"a text is cut with step 1, not {step}")
        return self.cut(start, max(start, end))

    def find(self, piece: str, start: int | None = None, end: int | None = None) -> int:
        """Return where a piece, not an empty one, stands first, or -1; start and end are those of str.find."""
        at, last, _ = slice(start, end).indices(len(self))
        while last - at >= len(piece):
            found = self.cut(at, min(last, at + _SCANNED_CHARS + len(piece))).find(piece)
            if found >= 0:
                return at + found
            at += _SCANNED_CHARS
        return -1

    def __str__(self) -> str:
        return self.cut(0, len(self))

    def __repr__(self) -> str:
        return f"<text of {len(self):,} characters>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str | Slices):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(chunks(self), chunks(other), strict=True))

    def __hash__(self) -> int:
        return hash(str(self))


class SealedText(Slices):
    """Texts, joined, in a memory file that nobody can change, in the very bytes that a str of CPython has: ready to be
    mapped as one. Any number of jails may be given the same one.

    A text that was on a shelf is moved: it is in here from now on, and its own memory is given back as that goes on.
    The memory is given back when nobody has this, or it is closed, and no running jail has it either.
    """

    def __init__(self, *texts: Text) -> None:
        self.chars = sum(map(len, texts))
        self.is_ascii, self.char_bytes = widest(texts)
        self._fd = memory_file("documents")
        # Not closed when this fails: what was moved by then is in here.
        self._closer = weakref.finalize(self, os.close, self._fd)
        self._near = (0, "")
        self._is_whole = False
        os.ftruncate(self._fd, self.size_bytes)
        at = 0
        for text in texts:
            for chunk in text.moving(self, at) if isinstance(text, HeldText) else chunks(text):
                write_all(self._fd, _encoded(chunk, self.char_bytes))
            at += len(text)
        write_all(self._fd, bytes(self.char_bytes))  # a str ends in an uncounted zero
        seal_file(self._fd)
        self._is_whole = True

    @property
    def size_bytes(self) -> int:
        return self.char_bytes * (self.chars + 1)

    def fileno(self) -> int:
        """Return the descriptor. Raises ValueError once it is closed: its number may be another file's by then."""
        if not self._closer.alive:
            raise ValueError("the sealed text is closed")
        return self._fd

    def close(self) -> None:
        self._closer()

    def __len__(self) -> int:
        return self.chars

    def cut(self, start: int, end: int) -> str:
        """Return the characters start..end. Raises ValueError once this is closed."""
        if end - start >= _NEAR_CHARS:
            return _decoded(self._read(start, end), self.char_bytes)
        first, near = self._near if self._closer.alive else (0, "")
        if not first <= start <= end <= first + len(near):
            first, near = start, _decoded(self._read(start, min(self.chars, start + _NEAR_CHARS)), self.char_bytes)
            if self._is_whole:
                self._near = first, near
        return near[start - first : end - first]

    def find(self, piece: str, start: int | None = None, end: int | None = None) -> int:
        """Return what it does for any text, by the bytes: they need no decoding for that."""
        at, last, _ = slice(start, end).indices(self.chars)
        width = self.char_bytes
        try:
            wanted = _encoded(piece, width)
        except UnicodeEncodeError:
            return -1
        while last - at >= len(piece) and len(wanted) == width * len(piece):
            data = self._read(at, min(last, at + _SCANNED_CHARS + len(piece)))
            found = data.find(wanted)
            while found % width and found >= 0:
                found = data.find(wanted, found + 1)
            if found >= 0:
                return at + found // width
            at += _SCANNED_CHARS
        return -1

    def _read(self, start: int, end: int) -> bytes:
        descriptor, width = self.fileno(), self.char_bytes
        first, last = start * width, end * width
        data = os.pread(descriptor, last - first, first)
        while len(data) < last - first:  # the kernel gives no more than 2 GiB at once
            data += os.pread(descriptor, last - first - len(data), first + len(data))
        return data


@dataclass(frozen=True, slots=True)
class _Shelved:
    """Characters in a slab."""

    slab: mmap.mmap
    at: int  # bytes
    chars: int
    char_bytes: int

    def cut(self, start: int, end: int) -> str:
        at, width = self.at, self.char_bytes
        return _decoded(self.slab[at + start * width : at + end * width], width)


@dataclass(frozen=True, slots=True)
class _Moved:
    """Characters that are part of a sealed text now."""

    text: SealedText
    at: int  # characters
    chars: int

    def cut(self, start: int, end: int) -> str:
        return self.text.cut(self.at + start, self.at + end)


class HeldText(Slices):
    """A text in pieces, wherever they are by now. Always the same text: only its memory is another one after a move."""

    def __init__(self) -> None:
        self._pieces: list[_Shelved | _Moved] = []
        self._ends: list[int] = []
        self.is_ascii = True
        self.char_bytes = 1

    @property
    def shelved_bytes(self) -> int:
        """What a move gives back."""
        return sum(piece.chars * piece.char_bytes for piece in self._pieces if isinstance(piece, _Shelved))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def cut(self, start: int, end: int) -> str:
        cuts = []
        index = bisect_right(self._ends, start)
        while start < end:
            piece, last = self._pieces[index], self._ends[index]
            first = last - piece.chars
            cuts.append(piece.cut(start - first, min(end, last) - first))
            start, index = last, index + 1
        return "".join(cuts)

    def moving(self, to: SealedText, at: int) -> Iterator[str]:
        """Yield the text in pieces; whoever asks for the next one has written the last one to its place in `to`."""
        for index, piece in enumerate(self._pieces):
            yield piece.cut(0, piece.chars)
            if isinstance(piece, _Shelved):
                self._pieces[index] = _Moved(to, at, piece.chars)
            at += piece.chars

    def add(self, piece: _Shelved, *, is_ascii: bool) -> None:
        """Put a piece behind the others."""
        self._pieces.append(piece)
        self._ends.append(len(self) + piece.chars)
        self.is_ascii = self.is_ascii and is_ascii
        self.char_bytes = max(self.char_bytes, piece.char_bytes)


class Shelf:
    """Where texts are put while they are read in. Slabs go back to the system one by one, which a heap does not."""

    def __init__(self) -> None:
        self._slab: mmap.mmap | None = None
        self._used = 0

    def put(self, text: str, to: HeldText) -> None:
        """Put more text behind that of `to`. Raises MemoryError."""
        is_ascii, width = widest([text])
        data = memoryview(_encoded(text, width))
        while data:
            if self._slab is None or self._used + width > _SLAB_BYTES:
                self._slab, self._used = _slab(), 0
            count = min(len(data), _SLAB_BYTES - self._used) // width * width
            self._slab[self._used : self._used + count] = data[:count]
            to.add(_Shelved(self._slab, self._used, count // width, width), is_ascii=is_ascii)
            self._used, data = self._used + count, data[count:]


def widest(texts: Iterable[Text]) -> tuple[bool, int]:
    """Return whether all of these are ASCII, and how many bytes CPython takes for a character of them together."""
    is_ascii, width = True, 1
    for text in texts:
        if isinstance(text, HeldText | SealedText):
            is_ascii, width = is_ascii and text.is_ascii, max(width, text.char_bytes)
            continue
        for chunk in chunks(text):
            if chunk.isascii():
                continue  # a slice is stored by what is in it, so this is known without a look
            is_ascii, width = False, max(width, _char_bytes(chunk) if width < 4 else 4)
    return is_ascii, width


def chunks(text: Text, end: int | None = None) -> Iterator[str]:
    """Yield a text, or all before `end`, in pieces: a large one is never there twice."""
    end = len(text) if end is None else min(end, len(text))
    for start in range(0, end, _CHUNK_CHARS):
        yield text[start : min(start + _CHUNK_CHARS, end)]


def text_sha256(text: Text) -> str:
    """Return the digest by which a trace knows a document's text."""
    digest = hashlib.sha256()
    for chunk in chunks(text):
        digest.update(chunk.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def utf8_bytes(text: Text) -> int:
    """Return how many bytes a text takes as UTF-8, never having them all."""
    return sum(len(chunk.encode("utf-8", "surrogatepass")) for chunk in chunks(text))


def is_blank(text: Text) -> bool:
    """Tell whether a text is nothing, or nothing but white space."""
    return all(chunk.isspace() for chunk in chunks(text))


def memory_file(name: str) -> int:
    """Return the descriptor of an empty memory file that can be sealed and, on a recent kernel, never executed."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create(name, flags)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def seal_file(descriptor: int) -> None:
    """Let nobody change this memory file any more."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


def _slab() -> mmap.mmap:
    try:
        return mmap.mmap(-1, _SLAB_BYTES)
    except OSError as error:
        raise MemoryError("no memory for a document") from error


def _char_bytes(text: str) -> int:
    """Return how many bytes CPython takes for each character of a text that is not ASCII."""
    if len(text.encode("utf-16-le", "surrogatepass")) > 2 * len(text):
        return 4
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return 2
    return 1


def _encoded(text: str, char_bytes: int) -> bytes:
    """Return the bytes of a text. Raises UnicodeEncodeError for one with a character that takes more of them."""
    return text.encode(ENCODINGS[char_bytes], "surrogatepass")


def _decoded(data: bytes, char_bytes: int) -> str:
    text = data.decode(ENCODINGS[char_bytes], "surrogatepass")
    if len(text) * char_bytes != len(data):  # two lone surrogates that stand side by side: a pair to UTF-16
        text = "".join(map(chr, memoryview(data).cast("H")))
    return text
