"""The commands of `python -m bench` that concern the jail."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from pathlib import Path

import click

from bench.jail.figures import Figure, lines, write
from bench.jail.measure import measure_large, measure_memory, measure_small
from bench.jail.peers import find_bwrap, measure_peers
from bench.provenance import command_line, provenance, refuse_full
from rlm_local.jail import nsjail_binary

REMARKS = (
    "Memory is the proportional set size of worker and nsjail: pages that several processes share are divided among "
    "them. A cold start is one without a pool: nsjail, interpreter, worker, documents, both filters.",
    "The peers run the same worker over the same channel, spoken to without an event loop. bubblewrap has the "
    "namespaces, the mounts and the worker's own second filter; it has no first filter, no limits, no control group, "
    "no id of its own. The plain process has the worker's filter and nothing else.",
)


@click.command("jail")
@click.option("--rounds", type=click.IntRange(min=1), default=50, help="Samples of what is timed.")
@click.option("--large-rounds", type=click.IntRange(min=0), default=50, help="Samples of what is timed with --gib.")
@click.option("--gib", type=click.FloatRange(min=0.01), default=1.0, help="Text of the large runs.")
@click.option("--jails", type=click.IntRange(min=1), default=50, help="Idle jails that are weighed, all at once.")
@click.option("--bwrap", type=click.Path(path_type=Path), default=None, help="bubblewrap, where it is not on the path.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for report.md and result.json.")
def jail_command(rounds: int, large_rounds: int, gib: float, jails: int, bwrap: Path | None, out: Path | None) -> int:
    """Time and weigh the jail. Exit code 0 whatever the figures."""
    refuse_full(out)
    made = provenance(command_line())

    def say(line: str) -> None:
        click.echo(line, err=True)

    async def measured() -> dict[str, list[Figure]]:
        sections = {"A jail": [*await measure_small(rounds, say), *await measure_memory(jails)]}
        if large_rounds:
            sections["Large texts"] = await measure_large(large_rounds, int(gib * (1 << 30)), say)
        sections["The same worker elsewhere"] = measure_peers(rounds, bwrap or find_bwrap())
        return sections

    sections = asyncio.run(measured())
    for name, figures in sections.items():
        click.echo("\n".join([f"\n{name}\n", *lines(figures)]))
    if out is not None:
        write(out, "The jail, measured", sections, made, {"nsjail": _nsjail(), "bubblewrap": _version(bwrap)}, REMARKS)
    return 0


def _nsjail() -> str:
    path = nsjail_binary()
    return f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _version(bwrap: Path | None) -> str:
    found = bwrap or find_bwrap()
    if found is None:
        return "none"
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.strip()
