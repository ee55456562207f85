"""`make setup`: from a bare python3 to a .venv in which `rlm-local` answers.

Run as `python3 -m tools` from the root of a clone. Standard library only; no step needs root.
Exit codes: 0 done, 1 something of the machine is missing or broken (one sentence says what), 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools import llama_wheel
from tools.llama_wheel import SetupError

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BUILT_FOR = VENV / "llama-wheel.key"  # which recipe's wheel this environment holds

GIB = 1 << 30
ENVIRONMENT_BYTES = GIB // 2  # .venv with the tools for tests: measured 0.4 GiB
BUILD_BYTES = GIB  # build folder of llama.cpp while it compiles: measured 0.5 GiB


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tools", description="make .venv and put rlm-local into it")
    parser.add_argument("--dev", action="store_true", help="also install what checks and tests need")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: set_up(with_dev=arguments.dev), again="the same command goes on from here")


def exit_code(work: Callable[[], object], *, again: str) -> int:
    """Do the work and return the exit code; a failure is told on stderr. again: what Ctrl-C leaves to do."""
    try:
        work()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"\nhint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; {again}", file=sys.stderr)
        return 130
    return 0


def set_up(*, with_dev: bool) -> None:
    require_platform(sys.platform, platform.machine())
    say = Teller()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = pinned_version(project, "llama", llama_wheel.PACKAGE)
    require_venv_module()
    require_space(VENV, ENVIRONMENT_BYTES, "the environment")
    compilers = llama_wheel.find_compilers(os.environ)
    python = environment(say)
    wheel, key = engine_wheel(python, version, compilers, say)
    install(python, wheel, key, dev_requirements(project) if with_dev else [], say)
    say(f"llama.cpp loads: {engine_line(python)}")


class Teller:
    """Prints what happens, each line with the seconds since set-up began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, line: str) -> None:
        print(f"set-up {time.monotonic() - self._began:4.0f} s  {line}", flush=True)


def pinned_version(project: Mapping[str, Any], extra: str, package: str) -> str:
    """Return the version that pyproject's extra pins `package` to. Raises SetupError when it pins none."""
    for requirement in project["project"]["optional-dependencies"][extra]:
        name, _, version = requirement.partition("==")
        if name.strip() == package and version:
            return str(version).strip()
    raise SetupError(f"pyproject.toml: extra {extra!r} does not pin {package} with ==")


def dev_requirements(project: Mapping[str, Any]) -> list[str]:
    """Return the requirements of dependency group `dev`. Read here, because pip reads groups only since 25.1."""
    return [str(requirement) for requirement in project["dependency-groups"]["dev"]]


def require_platform(system: str, machine: str) -> None:
    """Raise SetupError where no jail could run, before anything is built."""
    if system != "linux" or machine != "x86_64":
        raise SetupError(
            f"rlm-local runs on Linux on x86-64, because its jail does, and this is {system} on {machine}",
            hint="set it up on such a machine, or in a virtual one",
        )


def require_venv_module() -> None:
    # Debian splits the module in two: venv is there without python3-venv, ensurepip is not.
    if any(importlib.util.find_spec(name) is None for name in ("venv", "ensurepip")):
        raise SetupError(
            f"{sys.executable} cannot make virtual environments",
            hint="install its venv module: Debian and Ubuntu: apt install python3-venv",
        )


def require_space(place: Path, needed: int, what: str) -> None:
    """Raise SetupError unless the file system of `place`, which need not exist yet, has `needed` bytes free."""
    folder = next(parent for parent in (place, *place.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SetupError(
            f"{what} needs {needed / GIB:.1f} GiB, and {folder} has {free / GIB:.1f} GiB free", hint="make room there"
        )


def environment(say: Teller) -> Path:
    """Return the python of .venv, making it when it is missing or its python does not start."""
    python = VENV / "bin" / "python"
    if VENV.exists() and not starts(python):
        say(f"{VENV} has no python that starts; making it anew")
        shutil.rmtree(VENV)
    if not VENV.exists():
        say(f"making {VENV} with Python {sys.version.split()[0]}")
        run_quietly([sys.executable, "-m", "venv", str(VENV)], "python -m venv failed")
    return python


def starts(python: Path) -> bool:
    try:
        return llama_wheel.run_command([str(python), "-m", "pip", "--version"]).code == 0
    except OSError:
        return False


def engine_wheel(python: Path, version: str, compilers: llama_wheel.Compilers, say: Teller) -> tuple[Path, str]:
    """Return the engine's wheel for this machine and its recipe's key, from the cache or built now."""
    environ = os.environ
    machine, features = llama_wheel.this_machine()
    flags = llama_wheel.amx_flags(machine, compilers)
    made_by = llama_wheel.recipe(version, environ, compilers, flags, machine=machine, cpu_features=features)
    cache = llama_wheel.cache_folder(environ)
    if wheel := llama_wheel.cached_wheel(cache, made_by):
        say(f"llama.cpp for this processor was built before: {wheel}")
        return wheel, made_by.key
    require_space(cache, BUILD_BYTES, "building llama.cpp")
    say(f"compilers: {'; '.join(compilers.versions)}")
    if machine.lower() in {"x86_64", "amd64"} and not flags:
        say("this compiler is older than AMX, so llama.cpp will not use it")
    elif flags:
        say(f"without AMX, which crashes in many virtual machines: {' '.join(flags)}")
    minutes = max(1, round(llama_wheel.BUILD_CORE_SECONDS / llama_wheel.cores() / 60))
    say(
        f"building llama.cpp for this processor, about {minutes} minutes on {llama_wheel.cores()} cores; "
        f"the wheel is kept in {cache}"
    )
    wheel = llama_wheel.build_wheel(python, made_by, compilers, cache, environ)
    say(f"built {wheel.name}, {wheel.stat().st_size / 1e6:.0f} MB")
    return wheel, made_by.key


def install(python: Path, wheel: Path, key: str, dev: Sequence[str], say: Teller) -> None:
    """Install rlm-local editable with its CPU engine, and `dev`; every version as pyproject.toml asks."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    if not BUILT_FOR.exists() or BUILT_FOR.read_text(encoding="utf-8") != key:
        # pip takes an installed wheel of the same version for the same wheel, whatever it was built for.
        run_quietly([*pip, "--force-reinstall", "--no-deps", str(wheel)], "pip could not install the engine's wheel")
        BUILT_FOR.write_text(key, encoding="utf-8")
    say("installing rlm-local with the CPU engine" + (", and what checks and tests need" if dev else ""))
    run_quietly([*pip, "--editable", f"{ROOT}[llama,serve]", *dev], "pip could not install rlm-local")


def engine_line(python: Path) -> str:
    """Load the engine's library in the new environment and return what it says of itself."""
    code = (
        "import llama_cpp; "
        "print(llama_cpp.__version__, '|', llama_cpp.llama_print_system_info().decode().strip().rstrip('|').strip())"
    )
    done = llama_wheel.run_command([str(python), "-c", code])
    if done.code != 0:
        raise SetupError(
            f"llama.cpp was installed but does not load (exit code {done.code}):\n{done.stderr.strip()}",
            hint=f"delete {llama_wheel.cache_folder(os.environ)} and {VENV}, then run set-up again",
        )
    return done.stdout.strip()


def run_quietly(argv: Sequence[str], sentence: str) -> None:
    """Run a command whose output is of interest only when it fails. Raises SetupError with that output."""
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        printed = (done.stdout + done.stderr).strip().splitlines()
        tail = "\n".join(f"    {line}" for line in printed[-llama_wheel.LOG_TAIL_LINES :])
        raise SetupError(f"{sentence} (exit code {done.returncode}); it printed last:\n{tail}")
