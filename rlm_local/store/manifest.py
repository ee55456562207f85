"""manifest.json beside the weights: what was put there, from where, and what it hashed to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rlm_local.errors import StoreError
from rlm_local.store.sink import write_atomically

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class FileRecord:
    name: str  # path below the manifest's folder
    bytes: int
    sha256: str
    known: bool  # True: equal to the card's hash; False: recorded here at first pull
    source: str
    revision: str | None
    pulled_at: str  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of one model for one engine, in the card's order."""

    files: tuple[FileRecord, ...] = ()
    complete: bool = False  # False while a pull has still files to bring

    def find(self, name: str) -> FileRecord | None:
        return next((record for record in self.files if record.name == name), None)

    def with_file(self, record: FileRecord) -> Manifest:
        """Return this manifest with `record` added, or in place of the one with its name."""
        if self.find(record.name) is None:
            return replace(self, files=(*self.files, record))
        return replace(self, files=tuple(record if old.name == record.name else old for old in self.files))

    @property
    def bytes(self) -> int:
        return sum(record.bytes for record in self.files)

    @property
    def sha256(self) -> str:
        """One hash for the whole: the file's own when there is one file, else of the lines `sha256  name`."""
        if len(self.files) == 1:
            return self.files[0].sha256
        lines = "".join(f"{record.sha256}  {record.name}\n" for record in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in `folder`, or None when there is none. Raises StoreError for one that cannot be read."""
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["version"] != MANIFEST_VERSION:
            raise StoreError(
                f"{path}: manifest version {raw['version']}, this build reads {MANIFEST_VERSION}",
                hint="remove the model with `rlm-local rm` and pull it again",
            )
        files = tuple(FileRecord(**record) for record in raw["files"])
        return Manifest(files=files, complete=bool(raw["complete"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}", hint="mend its permissions, or set RLM_LOCAL_HOME"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path}: damaged ({error})", hint="delete that file; the next pull checks the weights and writes it anew"
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest so that a crash leaves the old one or the new one."""
    raw = {
        "version": MANIFEST_VERSION,
        "complete": manifest.complete,
        "files": [asdict(record) for record in manifest.files],
    }
    write_atomically(folder / MANIFEST, json.dumps(raw, indent=2) + "\n")
