"""Memory files: what goes to a jail or comes from one without ever being on a disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from types import TracebackType
from weakref import WeakSet

from rlm_local.texts import SealedText, memory_file, seal_file, write_all
from rlm_local.types import Corpus

_ASIDE_CHARS = 1 << 20  # a longer text is sealed on a thread
_LARGE_CHARS = 8 << 20


class SealedCorpus:
    """Documents that are ready for jails: sealed once, given to any number of sessions."""

    def __init__(self, corpus: Corpus, text: SealedText) -> None:
        self.corpus = corpus
        self.text = text
        _alive.add(self)

    def large_texts(self) -> Iterator[str]:
        """Yield those in the host's own memory whose pages take a while to be copied."""
        texts = (self.corpus.context, *(document.text for document in self.corpus.documents))
        return (text for text in texts if isinstance(text, str) and len(text) >= _LARGE_CHARS)

    def __enter__(self) -> SealedCorpus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back as soon as no running jail has it either; what the corpus itself is in, stays."""
        if self.text is not self.corpus.context:
            self.text.close()


_alive: WeakSet[SealedCorpus] = WeakSet()


def large_texts() -> list[str]:
    """Return all documents that are sealed now and in the host's own memory too, the large ones."""
    return [text for sealed in list(_alive) for text in sealed.large_texts()]


async def seal(corpus: Corpus) -> SealedCorpus:
    """Return the corpus sealed, which it may be already; a large one takes a while, in which others may go on."""
    context = corpus.context
    if isinstance(context, SealedText):
        return SealedCorpus(corpus, context)
    is_large = len(context) > _ASIDE_CHARS
    return SealedCorpus(corpus, await asyncio.to_thread(SealedText, context) if is_large else SealedText(context))


def sealed_bytes(name: str, data: bytes) -> int:
    """Return the descriptor of a memory file that holds data, can never be changed, and is read from its beginning."""
    descriptor = memory_file(name)
    try:
        write_all(descriptor, data)
        seal_file(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def read_tail(descriptor: int, max_bytes: int) -> str:
    """Return the end of a memory file as text."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, max_bytes, max(0, size - max_bytes)).decode("utf-8", "replace")
