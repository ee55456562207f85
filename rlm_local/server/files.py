"""Documents that callers have brought: what is known of them in SQLite, their bytes in files of their own."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rlm_local.documents.decode import binary_kind
from rlm_local.documents.reading import read_text
from rlm_local.errors import DocumentError, RlmError
from rlm_local.server.database import Database
from rlm_local.server.keys import UNLIMITED
from rlm_local.server.problem import Problem
from rlm_local.server.quotas import KeyLimits
from rlm_local.server.settings import Settings
from rlm_local.texts import HeldText, Shelf
from rlm_local.trace import visible
from rlm_local.types import Document, JsonObject

HEAD_BYTES = 65_536  # by which a file that is no text is known before all of it has come
_NAME_CHARS = 200
_COLUMNS = "id, name, purpose, bytes, created"


@dataclass(frozen=True, slots=True)
class StoredFile:
    id: str
    name: str
    purpose: str
    bytes: int
    created: int

    def as_object(self) -> JsonObject:
        """Return it as OpenAI shows a file."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


class Incoming:
    """A file while it comes: write() it, then keep() it; close() what was not kept."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.id = f"file-{secrets.token_hex(12)}"
        self.path = folder / self.id
        self.size = 0
        self._max_bytes = max_bytes
        self._head = b""
        self._fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._is_kept = False

    def write(self, data: bytes) -> None:
        """Raises Problem: 413 for more than the bound, 507 for a full disk."""
        self.size += len(data)
        if self.size > self._max_bytes:
            raise Problem(413, f"the file is over {self._max_bytes} bytes", code="too_large", param="file")
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            raise Problem(507, f"the server has no room for the file: {error.strerror}") from error

    def finish(self) -> None:
        """Have all of it on the disk. Raises Problem (400) for what is no text."""
        if kind := binary_kind(self._head):
            raise Problem(400, f"the file is {kind.name}; {kind.repair}", param="file")
        if not self.size:
            raise Problem(400, "the file is empty", param="file")
        os.fsync(self._fd)
        self._is_kept = True

    def close(self) -> None:
        """Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if not self._is_kept:
                self.path.unlink(missing_ok=True)


class Files:
    """All files of all tenants. Whoever asks for another's file is told what he is told for one that is not there."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._folder = database.folder / "files"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._sweep()

    def incoming(self, tenant: str, limits: KeyLimits = UNLIMITED) -> Incoming:
        """Return a place for a new file. Raises Problem (409) when the tenant has as many as he may."""
        (count,) = self._database.rows("SELECT count(*) FROM files WHERE tenant = ?", tenant)[0]
        if count >= self._settings.max_files:
            raise _too_many_files(count)
        most = self._settings.max_file_bytes
        return Incoming(
            self._folder, most if limits.max_document_bytes is None else min(most, limits.max_document_bytes)
        )

    def keep(self, tenant: str, incoming: Incoming, name: str, purpose: str) -> StoredFile:
        """Keep what has come, for good. Raises Problem (409) when others came meanwhile, as many as may be."""
        incoming.finish()
        file = StoredFile(incoming.id, _plain(name), purpose, incoming.size, int(time.time()))
        most = self._settings.max_files
        try:
            is_kept = self._database.write(
                "INSERT INTO files (id, tenant, name, purpose, bytes, created) SELECT ?1, ?2, ?3, ?4, ?5, ?6 "
                "WHERE (SELECT count(*) FROM files WHERE tenant = ?2) < ?7",
                *(file.id, tenant, file.name, purpose, file.bytes, file.created, most),
            )
            if not is_kept:
                raise _too_many_files(most)
        except (RlmError, Problem):
            incoming.path.unlink(missing_ok=True)
            raise
        return file

    def page(
        self, tenant: str, most: int, *, after: str | None, purpose: str | None, newest_first: bool
    ) -> list[StoredFile]:
        """Return at most so many files, those behind `after` in this order. Raises Problem (404) where that is none."""
        if after is not None:
            self.find(tenant, after)
        rows = self._database.page(
            "files", _COLUMNS, tenant, most, after=after, newest_first=newest_first, purpose=purpose
        )
        return [_file(row) for row in rows]

    def find(self, tenant: str, file_id: str) -> StoredFile:
        """Raises Problem (404)."""
        found = self._database.rows(f"SELECT {_COLUMNS} FROM files WHERE id = ? AND tenant = ?", file_id, tenant)
        if not found:
            raise _no_such_file()
        return _file(found[0])

    def open(self, tenant: str, file_id: str) -> BinaryIO:
        """Return a file's bytes, to be read and closed. Raises Problem (404), also for one that is deleted just now."""
        try:
            return (self._folder / self.find(tenant, file_id).id).open("rb")
        except FileNotFoundError:
            raise _no_such_file() from None

    def delete(self, tenant: str, file_id: str) -> None:
        """Raises Problem (404)."""
        file = self.find(tenant, file_id)
        self._database.write("DELETE FROM files WHERE id = ? AND tenant = ?", file.id, tenant)
        (self._folder / file.id).unlink(missing_ok=True)

    def check(self, tenant: str, file_ids: tuple[str, ...]) -> list[StoredFile]:
        """Return these files. Raises Problem: 404, and 413 where they are too much for one run together."""
        found = [self.find(tenant, file_id) for file_id in file_ids]
        total, most = sum(file.bytes for file in found), self._settings.max_documents_bytes
        if total > most:
            raise Problem(413, f"the documents have {total} bytes together, but one run takes {most}", code="too_large")
        return found

    def documents(self, tenant: str, file_ids: tuple[str, ...]) -> list[Document]:
        """Return files as documents, their names as they were uploaded.

        Raises what check() raises, and DocumentError for what is no text.
        """
        found = self.check(tenant, file_ids)
        shelf = Shelf()
        return [Document(file.name, _text(self._folder / file.id, file.name, shelf)) for file in found]

    def _sweep(self) -> None:
        """Delete what nobody knows: files whose upload ended with a server before this one."""
        known = {row["id"] for row in self._database.rows("SELECT id FROM files")}
        for path in self._folder.iterdir():
            if path.name not in known:
                path.unlink(missing_ok=True)


def _text(path: Path, name: str, shelf: Shelf) -> HeldText:
    try:
        with path.open("rb") as file:
            reading = read_text(file, shelf)
    except OSError as error:  # deleted since it was found, or a disk that fails
        raise DocumentError(f"{name} cannot be read any more: {error.strerror}") from error
    if kind := reading.kind:
        raise DocumentError(f"{name} is {kind.name}; {kind.repair}")
    if reading.is_blank_text:
        raise DocumentError(f"{name} holds nothing but white space")
    return reading.text


def _too_many_files(count: int) -> Problem:
    return Problem(409, f"{count} files are kept, as many as may be; delete some", code="too_many_files")


def _no_such_file() -> Problem:
    return Problem(404, "there is no such file", code="not_found")


def _plain(name: str) -> str:
    """Return a file's name without folders and without what acts on a terminal or breaks a line."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return visible(" ".join(base.split()))[:_NAME_CHARS] or "document"


def _file(row: sqlite3.Row) -> StoredFile:
    return StoredFile(*row)
