"""Are the weights still what they were? Cheaply at every start, and by reading every byte when asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlm_local.cards import EngineKind
from rlm_local.errors import StoreError
from rlm_local.store.manifest import FileRecord
from rlm_local.store.progress import Progress
from rlm_local.store.sink import sha256_of


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What reading one file again found."""

    card: str
    engine: EngineKind
    path: Path
    expected_sha256: str
    found_sha256: str | None  # None: the file is missing
    problem: str = ""  # one sentence; empty when the file is as it should be


def require_present(record: FileRecord, folder: Path, card: str) -> None:
    """Raise StoreError unless the file is there with its size; its bytes are not read."""
    path = folder / record.name
    if not path.is_file():
        raise StoreError(f"{path} is missing", hint=f"run `rlm-local pull {card}`")
    if (size := path.stat().st_size) != record.bytes:
        raise StoreError(
            f"{path} has {size} bytes, but was pulled with {record.bytes}", hint=f"run `rlm-local pull {card}`"
        )


def check_file(
    card: str, engine: EngineKind, folder: Path, record: FileRecord, card_sha256: str | None, progress: Progress
) -> FileCheck:
    """Hash one file again and compare it with its card, or with its record where the card knows no hash."""
    path = folder / record.name
    expected = card_sha256 or record.sha256
    if not path.is_file():
        return FileCheck(card, engine, path, expected, None, f"{path} is missing")
    found = sha256_of(path, lambda done, total: progress.advance(f"checking {record.name}", done, total))
    if found == expected:
        return FileCheck(card, engine, path, expected, found)
    size = path.stat().st_size
    length = "" if size == record.bytes else f" and {size} bytes in place of {record.bytes}"
    return FileCheck(card, engine, path, expected, found, f"{path} has sha256 {found}{length}, expected {expected}")
