"""Memory files: what goes to a jail or comes from one without ever being on a disk."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from types import TracebackType
from weakref import WeakSet

from rlm_local.types import Corpus

_MFD_NOEXEC_SEAL = 0x8  # Linux 6.3
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_CHUNK_CHARS = 1 << 20
_ASIDE_CHARS = 1 << 20  # a longer text is sealed on a thread
_LARGE_CHARS = 8 << 20

# The bytes that CPython itself keeps for a str whose widest character takes so many of them.
_ENCODINGS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}


class SealedText:
    """A text in a memory file that nobody can change, in the very bytes that a str of CPython has: ready to be mapped
    as one. Any number of jails may be given the same one. Close it when no further jail is to have it.
    """

    def __init__(self, text: str) -> None:
        self.chars = len(text)
        self.is_ascii = text.isascii()
        self.char_bytes = 1 if self.is_ascii else _char_bytes(text)
        encoding = _ENCODINGS[self.char_bytes]
        pieces = (chunk.encode(encoding, "surrogatepass") for chunk in _chunks(text))
        self._file = _sealed("documents", chain(pieces, [bytes(self.char_bytes)]))  # a str ends in an uncounted zero

    @property
    def bytes(self) -> int:
        return self.char_bytes * (self.chars + 1)

    def fileno(self) -> int:
        """Return the descriptor. Raises ValueError once it is closed: its number may be another file's by then."""
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


class SealedCorpus:
    """Documents that are ready for jails: sealed once, given to any number of sessions."""

    def __init__(self, corpus: Corpus, text: SealedText) -> None:
        self.corpus = corpus
        self.text = text
        _alive.add(self)

    def large_texts(self) -> Iterator[str]:
        """Yield those of the host's own copies that take a while to be copied."""
        texts = (self.corpus.context, *(document.text for document in self.corpus.documents))
        return (text for text in texts if len(text) >= _LARGE_CHARS)

    def __enter__(self) -> SealedCorpus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back as soon as no running jail has it either."""
        self.text.close()


_alive: WeakSet[SealedCorpus] = WeakSet()


def large_texts() -> list[str]:
    """Return the host's own copies of all documents that are sealed now, the large ones."""
    return [text for sealed in list(_alive) for text in sealed.large_texts()]


async def seal(corpus: Corpus) -> SealedCorpus:
    """Return the corpus sealed; a large one takes a while, in which others may go on."""
    if len(corpus.context) <= _ASIDE_CHARS:
        return SealedCorpus(corpus, SealedText(corpus.context))
    return SealedCorpus(corpus, await asyncio.to_thread(SealedText, corpus.context))


def memory_file(name: str) -> int:
    """Return the descriptor of an empty memory file that can be sealed and, on a recent kernel, never executed."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create(name, flags)


def sealed_bytes(name: str, data: bytes) -> int:
    """Return the descriptor of a memory file that holds data, can never be changed, and is read from its beginning."""
    with _sealed(name, [data]) as file:
        descriptor = os.dup(file.fileno())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def read_tail(descriptor: int, max_bytes: int) -> str:
    """Return the end of a memory file as text."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, max_bytes, max(0, size - max_bytes)).decode("utf-8", "replace")


def _sealed(name: str, pieces: Iterable[bytes]) -> io.FileIO:
    """Return a memory file of these pieces that can never be changed."""
    file = io.FileIO(memory_file(name), "r+")
    try:
        for piece in pieces:
            _write_all(file.fileno(), piece)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        file.close()
        raise
    return file


def _chunks(text: str) -> Iterator[str]:
    """Yield the text in pieces: the bytes of a large one are never there twice."""
    for start in range(0, len(text), _CHUNK_CHARS):
        yield text[start : start + _CHUNK_CHARS]


def _char_bytes(text: str) -> int:
    """Return how many bytes CPython takes for each character of this text that is not ASCII."""
    widest = 1
    for chunk in _chunks(text):
        if chunk.isascii():
            continue  # a slice is stored by what is in it, so this is known without a look
        if len(chunk.encode("utf-16-le", "surrogatepass")) > 2 * len(chunk):
            return 4
        if widest == 1:
            try:
                chunk.encode("latin-1")
            except UnicodeEncodeError:
                widest = 2
    return widest


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    written = 0
    while written < len(data):
        written += os.write(descriptor, view[written:])
