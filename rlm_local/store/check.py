"""Are the weights still what they were? Cheaply at every start, and by reading every byte when asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlm_local.cards import EngineKind, Weights
from rlm_local.errors import StoreError
from rlm_local.store.manifest import FileRecord, Manifest
from rlm_local.store.progress import Progress
from rlm_local.store.sink import sha256_of


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What reading one file again found."""

    card: str
    engine: EngineKind
    path: Path
    expected_sha256: str  # empty when neither the card nor the manifest knows one
    found_sha256: str | None  # None: the file is missing
    problem: str = ""  # one sentence; empty when the file is as it should be


def pull_command(card: str, engine: EngineKind) -> str:
    """Return the command that brings these weights here, or mends them."""
    return f"rlm-local pull {card}" + ("" if engine is EngineKind.LLAMA else f" --engine {engine}")


def require_present(record: FileRecord, folder: Path, card: str, engine: EngineKind) -> None:
    """Raise StoreError unless the file is there with its size; its bytes are not read."""
    path = folder / record.name
    hint = f"run `{pull_command(card, engine)}`"
    if not path.is_file():
        raise StoreError(f"{path} is missing", hint=hint)
    if (size := path.stat().st_size) != record.bytes:
        raise StoreError(f"{path} has {size} bytes, but was pulled with {record.bytes}", hint=hint)


def unrecorded(weights: Weights, card: str, folder: Path, manifest: Manifest) -> list[FileCheck]:
    """Return a problem for each file of the card that the manifest lacks, and one for a pull without its end.

    The files that a shard index names stand in the manifest alone, once the pull has come to its end.
    """
    lacking = [file for file in weights.files if manifest.find(file.name) is None]
    checks = [
        FileCheck(
            card, weights.engine, folder / file.name, file.sha256 or "", None, f"{folder / file.name} was never pulled"
        )
        for file in lacking
    ]
    if not manifest.complete and not lacking:
        problem = f"{folder} was not pulled to the end"
        checks.append(FileCheck(card, weights.engine, folder, "", None, problem))
    return checks


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
