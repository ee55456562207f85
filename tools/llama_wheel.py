"""Builds llama-cpp-python for this very processor, once, and keeps the wheel for the next set-up.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PACKAGE = "llama-cpp-python"

# ggml picks the AMX kernels where the processor announces them, and in virtual machines that announce but
# do not carry them the first decode is a segmentation fault. The AVX-512 kernels are there for all.
AMX_OFF = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")

# llama-cpp-python's own switches: its image and sound library is not ours to use, and takes a third of the build.
CMAKE_OPTIONS = ("-DLLAVA_BUILD=OFF",)

BUILD_CORE_SECONDS = 420  # measured: 3 min 46 s on 2 cores
LOG_TAIL_LINES = 25
INTERRUPTED_BUILD_S = 10


class SetupError(Exception):
    """Set-up cannot go on; the message is one sentence, `hint` says how to mend it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished command: its exit code and what it printed."""

    code: int
    stdout: str
    stderr: str


Runner = Callable[[Sequence[str], str], Ran]
"""Runs a command, feeds it a text, and returns what happened. Raises OSError when the program cannot be started."""


def run_command(argv: Sequence[str], stdin: str = "") -> Ran:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Compilers:
    """The C and the C++ compiler that the build will use, as a shell would be told of them."""

    c: str
    cxx: str
    versions: tuple[str, str]  # first line of --version of each


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what the build makes. Two machines with equal recipes can share a wheel."""

    version: str  # of llama-cpp-python
    python_abi: str
    machine: str
    cpu_features: tuple[str, ...]
    compilers: tuple[str, str]
    cflags: str
    cxxflags: str
    cmake_args: str

    @property
    def key(self) -> str:
        """Return a folder name: readable at its beginning, a digest of every field at its end."""
        fields = json.dumps(asdict(self), sort_keys=True)
        digest = hashlib.sha256(fields.encode()).hexdigest()[:16]
        return f"{self.version}-{self.python_abi}-{self.machine}-{digest}"


def find_compilers(environ: Mapping[str, str], run: Runner = run_command) -> Compilers:
    """Return the compilers that CC and CXX name, else the usual ones; each has compiled a trial.

    Raises SetupError that names the package to install when one of them is missing or cannot compile.
    """
    c = _working_compiler("C", environ.get("CC"), ("cc", "gcc", "clang"), "c", run)
    cxx = _working_compiler("C++", environ.get("CXX"), ("c++", "g++", "clang++"), "c++", run)
    return Compilers(c, cxx, (_version_line(c, run), _version_line(cxx, run)))


def amx_flags(machine: str, compilers: Compilers, run: Runner = run_command) -> tuple[str, ...]:
    """Return the flags that keep AMX out of the build: those that both compilers know, none off x86-64.

    A compiler that knows no such flag is older than AMX and cannot make its instructions either.
    """
    if machine.lower() not in {"x86_64", "amd64"}:
        return ()
    return tuple(
        flag
        for flag in AMX_OFF
        if _compiles(compilers.c, "c", run, flag) and _compiles(compilers.cxx, "c++", run, flag)
    )


def recipe(
    version: str,
    environ: Mapping[str, str],
    compilers: Compilers,
    flags: Sequence[str],
    *,
    machine: str,
    cpu_features: Sequence[str],
) -> Recipe:
    """Return the recipe for this machine; what the user set in CFLAGS, CXXFLAGS and CMAKE_ARGS comes along.

    The user's CMake options stand after ours, so that theirs win.
    """
    return Recipe(
        version=version,
        python_abi=sys.implementation.cache_tag or f"py{sys.version_info.major}{sys.version_info.minor}",
        machine=machine,
        cpu_features=tuple(sorted(set(cpu_features))),
        compilers=compilers.versions,
        cflags=_joined(environ.get("CFLAGS"), *flags),
        cxxflags=_joined(environ.get("CXXFLAGS"), *flags),
        cmake_args=_joined(*CMAKE_OPTIONS, environ.get("CMAKE_ARGS")),
    )


def cpu_features(cpuinfo: str) -> tuple[str, ...]:
    """Return the features that /proc/cpuinfo names for the first processor; empty when it names none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return tuple(value.split())
    return ()


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return where built wheels are kept, in the user's XDG cache folder."""
    named = environ.get("XDG_CACHE_HOME") or ""
    # The XDG specification: a relative path is to be ignored.
    root = Path(named) if named.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".cache"
    return root / "rlm-local" / "wheels"


def cached_wheel(cache: Path, made_by: Recipe) -> Path | None:
    """Return the kept wheel of this recipe, or None."""
    return next(iter(sorted((cache / made_by.key).glob("*.whl"))), None)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build_wheel(python: Path, made_by: Recipe, compilers: Compilers, cache: Path, environ: Mapping[str, str]) -> Path:
    """Build the wheel with pip and put it into the cache whole or not at all; return its path there.

    The log lies beside the wheels, and stays after a failure. Raises SetupError with the log's last lines.
    """
    cache.mkdir(parents=True, exist_ok=True)
    log = cache / f"build-{made_by.key}.log"
    settings = {
        "CC": compilers.c,
        "CXX": compilers.cxx,
        "CFLAGS": made_by.cflags,
        "CXXFLAGS": made_by.cxxflags,
        "CMAKE_ARGS": made_by.cmake_args,
        "CMAKE_BUILD_PARALLEL_LEVEL": environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(cores()),
    }
    argv = [str(python), "-m", "pip", "wheel", f"{PACKAGE}=={made_by.version}", "--no-deps", "--verbose"]
    argv += ["--no-binary", PACKAGE, "--no-cache-dir", "--wheel-dir"]
    # The wheel is made beside its place, because a rename is atomic only within one file system; and so are
    # pip's own temporary files, half a gigabyte, because /tmp may be small, and a killed pip leaves them.
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / made_by.key
        code = _logged([*argv, str(made)], {**environ, **settings, "TMPDIR": folder}, settings, log)
        if code != 0 or not list(made.glob("*.whl")):
            raise SetupError(
                f"{PACKAGE} {made_by.version} could not be fetched or built (exit code {code}); its log ends:\n"
                f"{log_tail(log)}",
                hint=f"the whole log is {log}",
            )
        _publish(made, cache / made_by.key)
    log.unlink()
    wheel = cached_wheel(cache, made_by)
    if wheel is None:
        raise SetupError(f"the wheel built for {made_by.key} is gone from {cache}", hint="run set-up again")
    return wheel


def _logged(argv: Sequence[str], environ: Mapping[str, str], settings: Mapping[str, str], log: Path) -> int:
    """Run a command with all that it prints in the log, under the settings it was given; return its exit code."""
    with log.open("w", encoding="utf-8") as sink:
        sink.write("".join(f"{name}={value}\n" for name, value in settings.items()))
        sink.flush()
        process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT)
        try:
            return process.wait()
        except KeyboardInterrupt:
            # Ctrl-C reached pip and its compilers too, and they need a moment to end each other.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=INTERRUPTED_BUILD_S)
            raise
        finally:
            process.kill()


def log_tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])


def this_machine() -> tuple[str, tuple[str, ...]]:
    """Return the machine's name and its processor's features, as far as the system tells them."""
    path = Path("/proc/cpuinfo")
    features = cpu_features(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else ()
    return platform.machine(), features or (platform.processor(),)


def _publish(made: Path, place: Path) -> None:
    try:
        made.rename(place)
    except OSError:
        # Another set-up was faster, and its wheel has the same recipe; anything else in that place is debris.
        if list(place.glob("*.whl")):
            return
        shutil.rmtree(place)
        made.rename(place)


def _working_compiler(language: str, named: str | None, usual: Sequence[str], kind: str, run: Runner) -> str:
    tried = (named,) if named else usual
    for command in tried:
        if _compiles(command, kind, run):
            return command
    raise SetupError(
        f"no working {language} compiler (tried {', '.join(tried)}); the CPU engine is compiled for this processor",
        hint="install one: Debian and Ubuntu: apt install build-essential; Fedora: dnf install gcc-c++ make; "
        "Arch: pacman -S base-devel",
    )


def _compiles(command: str, kind: str, run: Runner, *flags: str) -> bool:
    """Compile a program that needs the language's standard headers, and link it."""
    header = "<cstdio>" if kind == "c++" else "<stdio.h>"
    program = f"#include {header}\nint main(void) {{ return 0; }}\n"
    with tempfile.TemporaryDirectory(prefix="rlm-local-trial-") as folder:
        try:
            # -Werror: clang only warns of flags that it does not use.
            done = run([*command.split(), "-Werror", *flags, "-x", kind, "-", "-o", f"{folder}/trial"], program)
        except OSError:
            return False
    return done.code == 0


def _version_line(command: str, run: Runner) -> str:
    return next(iter(run([*command.split(), "--version"], "").stdout.splitlines()), command)


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)
