"""One pull: file by file, source by source, and the judgement whether what came is what was meant."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rlm_local.cards import Card, WeightFile, Weights, shard_names
from rlm_local.errors import StoreError
from rlm_local.store.check import pull_command
from rlm_local.store.manifest import FileRecord, Manifest, read_manifest, write_manifest
from rlm_local.store.progress import Progress
from rlm_local.store.sink import Sink, SinkOverflow, sha256_of
from rlm_local.store.source import Origin, Source, SourceFailed, Wanted


class Pull:
    """One pull of one model for one engine, under its lock.

    folder: where finished files and the manifest stand; partial: where unfinished files wait.
    """

    def __init__(self, card: Card, weights: Weights, folder: Path, partial: Path, progress: Progress) -> None:
        self._card = card
        self._weights = weights
        self._folder = folder
        self._partial = partial
        self._progress = progress

    def run(self, sources: Sequence[Source]) -> Manifest:
        """Bring every file, and return the complete manifest. Raises StoreError, and the OSError of a full disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        manifest = replace(read_manifest(self._folder) or Manifest(), complete=False)
        wanted_names: list[str] = []
        for file in self._files():
            wanted_names.append(file.name)
            if (record := self._held(file, manifest.find(file.name))) is not None:
                manifest = manifest.with_file(record)
            else:
                manifest = manifest.with_file(self._bring(file, manifest, sources))
                write_manifest(self._folder, manifest)
        by_name = {record.name: record for record in manifest.files}
        manifest = Manifest(files=tuple(by_name[name] for name in wanted_names), complete=True)
        write_manifest(self._folder, manifest)
        return manifest

    def _files(self) -> Iterator[WeightFile]:
        """The card's files; those of the shard index come once the index itself is here."""
        yield from self._weights.files
        if (index := self._weights.shard_index) is not None:
            path = self._folder / index
            named = {file.name for file in self._weights.files}
            try:
                names = shard_names(json.loads(path.read_text(encoding="utf-8")), str(path))
            except ValueError as error:
                raise StoreError(f"{path} is not the index of a model: {error}") from error
            for name in names:
                if name not in named:
                    yield WeightFile(name)

    def _held(self, file: WeightFile, record: FileRecord | None) -> FileRecord | None:
        """Return the record of a file that lies in the store with the right hash, else None."""
        path = self._folder / file.name
        expected = file.sha256 or (record.sha256 if record else None)
        if expected is None or not path.is_file():
            return None
        found = sha256_of(path, lambda done, total: self._progress.advance(f"checking {file.name}", done, total))
        if found != expected:
            self._progress.note(f"{path} has sha256 {found}, expected {expected}: deleted, and pulled again")
            path.unlink()
            return None
        origin = Origin(record.source if record else "already in the store", record.revision if record else None)
        return _record(file, path.stat().st_size, found, origin, record.pulled_at if record else _now())

    def _bring(self, file: WeightFile, manifest: Manifest, sources: Sequence[Source]) -> FileRecord:
        # Where the card pins no revision, all files come from the commit that the first one came from.
        revision = self._weights.revision or next((old.revision for old in manifest.files if old.revision), None)
        parts = next((parts for parts in self._weights.parts if parts.file == file.name), None)
        wanted = Wanted(self._card.name, self._weights.repo, revision, file, parts)
        lines: list[str] = []
        for source in sources:
            reason = source.refusal(wanted)
            if not reason:
                if lines:
                    self._progress.note(f"{lines[-1]}; going on to {source.name}")
                try:
                    return self._fetch(source, wanted)
                except SourceFailed as failure:
                    reason = str(failure)
            lines.append(f"{source.name}: {reason}")
        listed = "\n".join(f"  {line}" for line in lines)
        raise StoreError(
            f"no source gave {file.name} of model {self._card.name!r}\n{listed}",
            hint=f"mend one of these and repeat `{pull_command(self._card.name, self._weights.engine)}`; "
            "it goes on from what is kept",
        )

    def _fetch(self, source: Source, wanted: Wanted) -> FileRecord:
        file = wanted.file
        phase = f"{file.name} from {source.name}"
        partial = self._partial / f"{file.name}.{source.key}"
        with Sink(
            partial, total=file.bytes, advance=lambda done, total: self._progress.advance(phase, done, total)
        ) as sink:
            try:
                origin = source.fetch(wanted, sink)
            except SinkOverflow as overflow:
                sink.discard()
                raise SourceFailed(f"{overflow}; deleted") from overflow
            expected = file.sha256 or origin.declared_sha256
            if expected not in (None, sink.sha256) or file.bytes not in (None, sink.size):
                sink.discard()
                raise SourceFailed(
                    f"{file.name} came with sha256 {sink.sha256} ({sink.size} bytes), "
                    f"expected {expected} ({file.bytes or 'unknown'} bytes): deleted"
                )
            sink.move_to(self._folder / file.name)
        return _record(file, sink.size, sink.sha256, origin, _now())


def _record(file: WeightFile, size: int, sha256: str, origin: Origin, pulled_at: str) -> FileRecord:
    known = file.sha256 is not None
    return FileRecord(file.name, size, sha256, known, origin.source, origin.revision, pulled_at)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
