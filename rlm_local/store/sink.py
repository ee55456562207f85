"""A partial file that is hashed as it grows, so that nothing is read twice and no source vouches for itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

CHUNK_BYTES = 1 << 20


class Sink:
    """Appends to one partial file; opening it again goes on from the bytes that are there.

    total: the size that the file should have, or None. A write beyond it raises SinkOverflow.
    advance: called with (bytes held, total) after every write.
    """

    def __init__(self, path: Path, *, total: int | None, advance: Callable[[int, int | None], None]) -> None:
        self._path = path
        self._mark_path = path.with_name(path.name + ".mark")
        self._total = total
        self._advance = advance
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+b")
        self._rehash()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def folder(self) -> Path:
        """Where the partial file lies; a source may keep other unfinished things there."""
        return self._path.parent

    @property
    def sha256(self) -> str:
        """Of the bytes held so far."""
        return self._hash.hexdigest()

    @property
    def mark(self) -> str:
        """What the source noted with set_mark, or "" when it never did."""
        try:
            return self._mark_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def set_mark(self, text: str) -> None:
        """Keep a note of the source beside the bytes: how far it got, and with what. Survives a crash."""
        self.sync()
        write_atomically(self._mark_path, text)

    def expect(self, total: int | None) -> None:
        """Take the size that a source announces, when the card knows none."""
        if self._total is None:
            self._total = total

    def write(self, chunk: bytes) -> None:
        if self._total is not None and self.size + len(chunk) > self._total:
            raise SinkOverflow(f"sends more than the {self._total} bytes that the file should have")
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)
        self._advance(self.size, self._total)

    def cut_back(self, size: int) -> None:
        """Keep only the first `size` bytes, and hash those again."""
        if size == self.size:
            return
        self._file.flush()
        self._file.truncate(size)
        self._rehash()

    def _rehash(self) -> None:
        self._file.seek(0)
        self._hash, self.size = hashlib.sha256(), 0
        while chunk := self._file.read(CHUNK_BYTES):
            self._hash.update(chunk)
            self.size += len(chunk)

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Remove the bytes and the mark."""
        self._path.unlink(missing_ok=True)
        self._mark_path.unlink(missing_ok=True)

    def move_to(self, path: Path) -> None:
        """Put the finished file in its place, durably."""
        self.sync()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(path)
        self._mark_path.unlink(missing_ok=True)
        sync_folder(path.parent)


class SinkOverflow(Exception):
    """A source sent more bytes than the file has."""


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` with `text`: after a crash there is the old file or the new one, never half of one."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path, advance: Callable[[int, int | None], None]) -> str:
    """Return the sha256 of a file, telling (bytes done, bytes in all) on the way."""
    total = path.stat().st_size
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            advance(done, total)
    return digest.hexdigest()
