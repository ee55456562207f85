"""The commands of `python -m bench` that concern the jail."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bench.jail.churn import churn
from bench.jail.figures import Figure, lines, write
from bench.jail.fuzz import drawn_payloads, fuzz
from bench.jail.measure import measure_large, measure_memory, measure_small
from bench.jail.peers import find_bwrap, measure_peers
from bench.jail.pyodide import find_pyodide, measure_pyodide
from bench.output import PROGRAM, say, write_result
from bench.provenance import ROOT, Provenance, command_line, provenance, refuse_full
from rlm_local.cli.values import Folder, Number
from rlm_local.jail import nsjail_binary

REMARKS = (
    "Memory is the proportional set size of worker and nsjail: pages that several processes share are divided among "
    "them. A cold start is one without a pool: nsjail, interpreter, worker, documents, both filters.",
    "The peers run the same worker over the same channel, spoken to without an event loop. bubblewrap has the "
    "namespaces, the mounts and the worker's own second filter; it has no first filter, no limits, no control group, "
    "no id of its own. The plain process has the worker's filter and nothing else.",
    "Pyodide in Deno is CPython compiled to WebAssembly, in a process that may read Pyodide's own files and nothing "
    "else. Its cells have to await a sub-call, and see no document: a text of JavaScript holds half of 1 GiB.",
)


@click.command("jail")
@click.option("--rounds", type=click.IntRange(min=1), default=50, help="Samples of what is timed.")
@click.option("--large-rounds", type=click.IntRange(min=0), default=50, help="Samples of what is timed with --gib.")
@click.option("--gib", type=Number(min=0.01), default=1.0, help="Text of the large runs.")
@click.option("--jails", type=click.IntRange(min=1), default=50, help="Idle jails that are weighed, all at once.")
@click.option("--bwrap", type=PROGRAM, default=None, help="bubblewrap, where it is not on the path.")
@click.option("--out", type=Folder(), default=None, help="Folder for report.md and result.json.")
def jail_command(rounds: int, large_rounds: int, gib: float, jails: int, bwrap: Path | None, out: Path | None) -> int:
    """Time and weigh the jail. Exit code 0 whatever the figures."""
    refuse_full(out)
    made, pyodide = provenance(command_line()), find_pyodide()

    async def measured() -> dict[str, list[Figure]]:
        sections = {"A jail": [*await measure_small(rounds, say), *await measure_memory(jails)]}
        if large_rounds:
            sections["Large texts"] = await measure_large(large_rounds, int(gib * (1 << 30)), say)
        sections["The same worker elsewhere"] = measure_peers(rounds, bwrap or find_bwrap())
        sections["Cells in WebAssembly"] = measure_pyodide(rounds, pyodide)
        return sections

    sections = asyncio.run(measured())
    for name, figures in sections.items():
        click.echo("\n".join([f"\n{name}\n", *lines(figures)]))
    if out is not None:
        others = {"bubblewrap": _version(bwrap), "Pyodide": pyodide.version() if pyodide else "none"}
        write(out, "The jail, measured", sections, made, {"nsjail": _nsjail(), **others}, REMARKS)
    return 0


@click.command("jail-churn")
@click.option("--jails", type=click.IntRange(min=1), default=10_000, help="How many in all.")
@click.option("--at-once", type=click.IntRange(1, 500), default=50, help="How many side by side.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def churn_command(jails: int, at_once: int, out: Path | None) -> int:
    """Start, use and end jails, and look for what they leave behind. Exit code 1 when anything is left or failed."""
    refuse_full(out)
    made = provenance(command_line())
    result = asyncio.run(churn(jails, at_once, say))
    _tell(out, {**asdict(result), "faults": result.faults()}, result.lines(), made)
    return 1 if result.faults() else 0


@click.command("fuzz-channel")
@click.option("--frames", type=click.IntRange(min=1), default=1_000_000, help="Write at least so many.")
@click.option("--minutes", type=Number(min=0), default=0.0, help="And for at least so long.")
@click.option("--seed", type=int, default=0, help="Decides every frame.")
@click.option("--drawn", type=click.IntRange(min=0), default=2_000, help="Payloads that hypothesis draws first.")
@click.option("--atheris", type=PROGRAM, default=None, help="Python that has it, for as many runs.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def fuzz_command(frames: int, minutes: float, seed: int, drawn: int, atheris: Path | None, out: Path | None) -> int:
    """Write a hostile worker's frames to the host's own session. Exit code 1 when anything is not as it must be."""
    refuse_full(out)
    made = provenance(command_line())
    seeds = drawn_payloads(drawn, seed) if drawn else []
    result = asyncio.run(fuzz(frames, minutes, seed, seeds, say))
    told: dict[str, Any] = {**result.as_object(), "drawn": len(seeds)}
    if atheris is not None:
        done = _atheris(atheris, frames, seed, seeds)
        told["atheris"] = done.stderr.splitlines()[-3:]
        if done.returncode:
            result.faults.append(f"atheris ended with status {done.returncode}: {done.stderr[-2_000:]}")
    _tell(
        out, told | {"faults": result.faults}, result.lines() + [f"atheris: {t}" for t in told.get("atheris", [])], made
    )
    return 1 if result.faults else 0


def _atheris(python: Path, runs: int, seed: int, seeds: Sequence[bytes]) -> subprocess.CompletedProcess[str]:
    """Let atheris look for more, beginning with the payloads that hypothesis has drawn."""
    with tempfile.TemporaryDirectory() as folder:
        for number, payload in enumerate(seeds):
            (Path(folder) / str(number)).write_bytes(payload)
        words: list[str | Path] = [
            python,
            ROOT / "bench/jail/atheris_side.py",
            folder,
            f"-runs={runs}",
            f"-seed={seed + 1}",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def _tell(out: Path | None, told: dict[str, Any], lines: list[str], made: Provenance) -> None:
    click.echo("\n".join(lines))
    write_result(told, out, made)


def _nsjail() -> str:
    path = nsjail_binary()
    return f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _version(bwrap: Path | None) -> str:
    found = bwrap or find_bwrap()
    if found is None:
        return "none"
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.strip()
