"""Paths that a user gave become documents, or one sentence that says why not."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rlm_local.documents.names import own_name
from rlm_local.documents.reading import Reading, read_text
from rlm_local.errors import DocumentError
from rlm_local.texts import Shelf
from rlm_local.types import Document

STDIN = "-"
STDIN_NAME = "stdin"
_NAMED_IN_A_WARNING = 3  # skipped files named one by one; the rest is counted
# Characters that would break a header line, or turn the letters after them around on a terminal.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROL |= {code: f"\\u{code:04x}" for code in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read; at least one document, each with a unique name and some text."""

    documents: tuple[Document, ...]  # in the order of the paths; in a folder sorted, files before folders
    warnings: tuple[str, ...]  # one sentence each: what was replaced, skipped or given twice


def load(paths: Sequence[str], *, strict: bool, stdin: BinaryIO) -> Loaded:
    """Read files, folders and standard input (`-`).

    A file is named as the user gave it, a file in a folder by its path from that folder on ("contracts/a.txt"),
    standard input "stdin"; a name that is taken gets " (2)". Folders are read to any depth without hidden
    entries; what is not text in them is skipped with a warning. A file reached twice, as through a symbolic
    link, is read once, under its own name when it has one there. Text is decoded as `decode` says.

    strict: refuse what would else be a warning about a file's content: invalid UTF-8, and files of a folder
    that cannot be read.
    Raises DocumentError for a path that is missing, unreadable, empty or not text, and for a folder without any
    text file.
    """
    if not paths:
        raise DocumentError("no document was given", hint="name files or folders, or - for standard input")
    reader = _Reader(strict)
    for path in paths:
        if path == STDIN:
            reader.add_stdin(stdin)
        elif os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where the target may not be looked at
            reader.add_folder(path)
        else:
            reader.add_file(path)
    return Loaded(tuple(reader.documents), tuple(reader.warnings))


def check_there(paths: Sequence[str]) -> None:
    """Raise DocumentError, as load would, for a path that leads to no file, folder or pipe. Nothing is opened."""
    for path in paths:
        if path == STDIN or os.path.isdir(path):  # noqa: PTH112 - as in load
            continue
        try:
            _check_kind(path)
        except OSError as error:
            raise _unreadable(path, error) from error


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    name: str
    is_link: bool
    error: OSError | None = None  # a folder that cannot be listed


class _Reader:
    """Collects the documents of one load(); knows which files and names it has already."""

    def __init__(self, strict: bool) -> None:
        self.documents: list[Document] = []
        self.warnings: list[str] = []
        self._strict = strict
        self._names: set[str] = set()
        self._read: set[str] = set()  # real paths
        self._shelf = Shelf()

    def add_stdin(self, stdin: BinaryIO) -> None:
        if STDIN in self._read:
            raise DocumentError("standard input was given twice", hint="name - only once")
        self._read.add(STDIN)
        self._keep(STDIN_NAME, read_text(stdin, self._shelf))

    def add_file(self, path: str) -> None:
        if self._was_read(Path(path)):
            self.warnings.append(f"{_shown(path)} was given twice; it is read once")
            return
        self._keep(_shown(path), _read_file(path, self._shelf), path=path)

    def add_folder(self, path: str) -> None:
        folder = Path(path)
        skipped: list[str] = []
        before = len(self.documents)
        reached_before = False
        for entry in _once(_walk(folder, _folder_name(folder))):
            if self._was_read(entry.path):
                reached_before = True
                continue
            if reason := self._skip_reason(entry):
                skipped.append(f"{entry.name} ({reason})")
        if skipped:
            self.warnings.append(_skipped_warning(path, skipped))
        if len(self.documents) == before and not reached_before:
            raise DocumentError(
                f"the folder {_shown(path)} holds no text file" + (f"; skipped: {_some(skipped)}" if skipped else ""),
                hint="hidden files and folders are not read; name them one by one if you mean them",
            )

    def _skip_reason(self, entry: _Entry) -> str:
        """Keep a folder's file as a document and return "", or return why it is left out."""
        try:
            if entry.error:
                raise entry.error
            if not stat.S_ISREG(entry.path.stat().st_mode):
                return "not a regular file"
            with entry.path.open("rb") as file:
                reading = read_text(file, self._shelf)
        except OSError as error:
            if self._strict:
                raise _unreadable(str(entry.path), error) from error
            return f"cannot be read: {error.strerror}"
        if reading.kind:
            return reading.kind.name
        if reading.is_blank:
            return "empty"
        self._keep(entry.name, reading, path=str(entry.path))
        return ""

    def _was_read(self, path: Path) -> bool:
        """Tell whether this file was read under any name, and remember it."""
        real = os.path.realpath(path)
        if real in self._read:
            return True
        self._read.add(real)
        return False

    def _keep(self, name: str, reading: Reading, *, path: str = "") -> None:
        if kind := reading.kind:
            raise DocumentError(f"{name} is {kind.name}; {kind.repair}")
        if reading.is_blank_text:
            raise DocumentError(
                f"{name} holds nothing but white space" if reading.bytes else f"{name} is empty",
                hint="give a document with text in it",
            )
        if count := reading.replaced_bytes:
            if self._strict:
                raise DocumentError(
                    f"{name} is not valid {reading.encoding}: byte {reading.first_replaced} is "
                    f"0x{reading.first_byte:02x}",
                    hint="convert it, e.g. with `iconv -f WINDOWS-1252 -t UTF-8`, or leave out --strict",
                )
            self.warnings.append(
                f"{name}: {count:,} invalid byte{'s' if count > 1 else ''} replaced by U+FFFD, "
                f"the first at byte {reading.first_replaced}"
            )
        absolute = str(Path(path).absolute()) if path else ""
        self.documents.append(Document(own_name(name, self._names), reading.text, absolute))


def _walk(folder: Path, name: str) -> Iterator[_Entry]:
    """Yield the files below `folder` in the order of their names; each real folder is entered once."""
    entered = {os.path.realpath(folder)}
    waiting = [(folder, name)]
    while waiting:
        here, here_name = waiting.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if here is folder:
                raise _unreadable(str(here), error) from error
            yield _Entry(here, here_name, is_link=False, error=error)
            continue
        files = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path, entry_name = Path(entry.path), f"{here_name}/{_shown(entry.name)}"
            if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where the target may not be looked at
                real = os.path.realpath(path)
                if real not in entered:
                    entered.add(real)
                    waiting.append((path, entry_name))
            else:
                files.append(_Entry(path, entry_name, is_link=entry.is_symlink()))
        yield from reversed(files)


def _once(entries: Iterator[_Entry]) -> list[_Entry]:
    """Return the entries without the links to files that stand among them under their own name."""
    found = list(entries)
    own = {os.path.realpath(entry.path) for entry in found if not entry.is_link}
    return [entry for entry in found if not entry.is_link or os.path.realpath(entry.path) not in own]


def _read_file(path: str, shelf: Shelf) -> Reading:
    try:
        _check_kind(path)
        with Path(path).open("rb") as file:
            return read_text(file, shelf)
    except OSError as error:
        raise _unreadable(path, error) from error


def _check_kind(path: str) -> None:
    """Raise DocumentError for what is neither file nor pipe, OSError for what is not there."""
    mode = os.stat(path).st_mode  # noqa: PTH116 - Path takes an empty name for the current folder
    # A pipe is read, for `<(command)`; a device may never end.
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise DocumentError(f"{_shown(path)} is neither a file nor a folder", hint="use - to read from standard input")


def _unreadable(path: str, error: OSError) -> DocumentError:
    if isinstance(error, FileNotFoundError):
        return DocumentError(f"{_shown(path)} does not exist", hint="check the spelling and the folder")
    return DocumentError(
        f"{_shown(path)} cannot be read: {error.strerror or error}", hint="make it readable, or leave it out"
    )


def _folder_name(folder: Path) -> str:
    # "." and ".." have no name of their own.
    return _shown(folder.name if folder.name not in ("", "..") else folder.resolve().name) or "/"


def _shown(path: str) -> str:
    """Return a path as text: bytes that are no UTF-8 as U+FFFD, control characters as \\x.., all on one line."""
    return os.fsencode(path).decode("utf-8", "replace").translate(_CONTROL) or "''"


def _skipped_warning(path: str, skipped: Sequence[str]) -> str:
    count = len(skipped)
    return f"{_shown(path)}: skipped {count} file{'s' if count > 1 else ''} without text: {_some(skipped)}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_IN_A_WARNING])
    rest = len(names) - _NAMED_IN_A_WARNING
    return f"{shown} and {rest} more" if rest > 0 else shown
