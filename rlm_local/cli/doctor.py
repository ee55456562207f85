"""`rlm-local doctor`: what this machine has of what a run needs."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile

import click

from rlm_local import __version__
from rlm_local.cards import DEFAULT_MODEL, Card, find_card, load_cards
from rlm_local.cli.needs import needs_of
from rlm_local.cli.streams import write_lines
from rlm_local.config import home, nearest
from rlm_local.errors import ConfigError, EngineError, StoreError
from rlm_local.jail import probe
from rlm_local.store import Store
from rlm_local.types import Check

GIB = 1 << 30
_ENGINE_MODULES = ("llama_cpp", "llguidance", "jinja2", "numpy", "starlette", "uvicorn")
_LOAD_S = 60


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of checks.")
def doctor(as_json: bool) -> int:
    """Start a real jail, look at engine and weights, and name what is missing and how to mend it.

    Exit code 1 when something that every run needs is missing.
    """
    checks = [*_machine(), *_engine(), *_store(), *asyncio.run(probe())]
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        width = max(len(check.name) for check in checks)
        write_lines(_line(check, width) for check in checks)
    return 1 if any(check.required and not check.ok for check in checks) else 0


def _line(check: Check, width: int) -> str:
    verdict = "ok     " if check.ok else "MISSING" if check.required else "without"
    line = f"{verdict}  {check.name:<{width}}  {check.detail}"
    return f"{line}\n{'':9}{'':{width}}  hint: {check.hint}" if check.hint and not check.ok else line


def _machine() -> list[Check]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return [
        Check("rlm-local", ok=True, detail=f"{__version__} on Python {platform.python_version()}"),
        Check("machine", ok=True, detail=f"{platform.machine()}, {os.cpu_count()} cores, {memory:.1f} GiB"),
    ]


def _engine() -> list[Check]:
    missing = [name for name in _ENGINE_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        hint = "run `make setup`, or install rlm-local[llama]"
        return [Check("CPU engine", ok=False, detail=f"no {', '.join(missing)} in {sys.prefix}", hint=hint)]
    if why := loading_fails():
        hint = "run `make setup`, which builds llama.cpp for this processor"
        return [Check("CPU engine", ok=False, detail=f"llama.cpp does not load: {why}", hint=hint)]
    return [Check("CPU engine", ok=True, detail="llama.cpp through llama-cpp-python, masks by llguidance")]


def loading_fails(python: str = sys.executable) -> str:
    """Load the library in another process, because a wheel made for another processor ends it; return how, or ""."""
    # -P: the current folder holds the user's documents.
    code = "import llama_cpp; llama_cpp.llama_print_system_info()"
    command = [python, "-P", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_LOAD_S)
    except subprocess.TimeoutExpired:
        return f"it takes more than {_LOAD_S} s"
    if done.returncode < 0:
        return f"it is killed by {signal.Signals(-done.returncode).name}"
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return said[-1] if done.returncode else ""


def _store() -> list[Check]:
    """Tell of the folders and the cards that every command begins with, and of the default model."""
    try:
        where = home()
    except ConfigError as error:
        return [Check("model store", ok=False, detail=str(error), hint=error.hint)]
    traces = _folder("traces", where.traces)
    try:
        cards = load_cards()
    except ConfigError as error:
        hint = error.hint or "mend that card, or take it away"
        return [
            _folder("model store", where.weights),
            traces,
            Check("model cards", ok=False, detail=str(error), hint=hint),
        ]
    weights = _weights(find_card(DEFAULT_MODEL, cards), Store(where))
    # A store that others fill, and that is only read, is enough for a run.
    return [_folder("model store", where.weights, required=not weights[0].ok), traces, *weights]


def _folder(name: str, folder: Path, *, required: bool = True) -> Check:
    there = nearest(folder)
    try:
        # A file without a name, which nobody ever sees: what may be written is known by writing alone.
        TemporaryFile(dir=there).close()
        free = shutil.disk_usage(there).free / GIB
    except OSError as error:
        return Check(
            name,
            ok=False,
            detail=f"{folder} cannot be written to: {error.strerror}",
            required=required,
            hint=f"mend the permissions of {there}, or set RLM_LOCAL_HOME to a folder of yours",
        )
    return Check(name, ok=True, detail=f"{folder}, {free:.1f} GiB free")


def _weights(card: Card, store: Store) -> list[Check]:
    try:
        path = store.path(card, "llama")
    except StoreError as error:
        return [Check("default model", ok=False, detail=str(error), required=False, hint=error.hint)]
    found = Check("default model", ok=True, detail=f"{card.name}, {path.stat().st_size / GIB:.2f} GiB")
    return [found, _memory(card, store)]


def _memory(card: Card, store: Store) -> Check:
    """Tell whether the default model can be loaded beside what else runs here now."""
    try:
        needs = needs_of(card, store)
    except (EngineError, ConfigError) as error:
        return Check("memory", ok=False, detail=str(error), required=False, hint=error.hint or "run `rlm-local verify`")
    detail = needs.refused or needs.memory_line()
    return Check("memory", ok=not needs.refused, detail=detail, required=False, hint=needs.hint)
