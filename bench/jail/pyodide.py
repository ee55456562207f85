"""Pyodide in Deno, for scale: cells in WebAssembly, as other systems run them that have no jail of the kernel's."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.jail.figures import Figure
from bench.provenance import ROOT
from rlm_local.errors import JailError

PEERS = ROOT / ".venv-jail-peers"  # what `make bench-jail-peers` makes
_SIDE = ROOT / "bench/peers/pyodide/side.mjs"
_CALLS = 50  # sub-calls of a cell, of which one is the mean
_QUERIES = f"for _ in range({_CALLS}):\n    await llm_query('x')"


@dataclass(frozen=True, slots=True)
class Pyodide:
    """Where it is."""

    deno: Path
    folder: Path  # of Pyodide's own files

    def version(self) -> str:
        """Return both versions, as they name themselves."""
        told = subprocess.run([self.deno, "--version"], capture_output=True, text=True, check=True).stdout
        pyodide = json.loads((self.folder / "package.json").read_text(encoding="utf-8"))["version"]
        return f"Pyodide {pyodide} in {told.splitlines()[0]}"


def find_pyodide() -> Pyodide | None:
    """Return what `make bench-jail-peers` has installed; None where it was not run."""
    modules = PEERS / "node_modules"
    deno = next(modules.glob("@deno/linux-*/deno"), None)
    return Pyodide(deno, modules / "pyodide") if deno and (modules / "pyodide").is_dir() else None


def measure_pyodide(rounds: int, found: Pyodide | None) -> list[Figure]:
    """Time start, empty cells and sub-calls, from the side of who starts it."""
    if found is None:
        return [Figure("Pyodide in Deno", "ms", (), remark="not installed; `make bench-jail-peers` does")]
    starts, cells, calls = [], [], []
    for _ in range(rounds):
        began = time.perf_counter()
        with _running(found) as peer:
            peer.run("")
            starts.append((time.perf_counter() - began) * 1e3)
            began = time.perf_counter()
            peer.run("")
            cells.append((time.perf_counter() - began) * 1e3)
            peer.run(_QUERIES)  # what is compiled at its first use is compiled now
            began = time.perf_counter()
            peer.run(_QUERIES)
            calls.append((time.perf_counter() - began) * 1e3 / _CALLS)
    return [
        Figure("Pyodide in Deno: start to the end of the first cell", "ms", tuple(starts)),
        Figure("Pyodide in Deno: empty cell", "ms", tuple(cells)),
        Figure("Pyodide in Deno: sub-call, there and back", "ms", tuple(calls), remark=f"of {_CALLS} in a row"),
    ]


class _Peer:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, code: str) -> None:
        """Run a cell and answer its sub-calls."""
        self._say({"code": code})
        while (frame := self.hear())["op"] == "query":
            self._say({"reply": frame["prompt"]})
        if frame["op"] != "done":
            raise JailError(f"the peer said {frame}")

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise JailError("the peer ended", hint="its own words are on standard error")
        told: dict[str, Any] = json.loads(line)
        return told

    def _say(self, frame: dict[str, str]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(frame) + "\n")
        self._process.stdin.flush()


@contextmanager
def _running(found: Pyodide) -> Iterator[_Peer]:
    # It may read its own files, and nothing else is allowed: neither files nor network, nor what it runs in.
    words = [str(found.deno), "run", "--no-prompt", "--no-remote", "--no-config", f"--allow-read={found.folder}"]
    with subprocess.Popen(
        [*words, str(_SIDE), str(found.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            peer = _Peer(process)
            peer.hear()
            yield peer
        finally:
            process.kill()
