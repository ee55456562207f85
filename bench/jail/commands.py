"""The commands of `python -m bench` that concern the jail."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bench.jail.figures import Figure, lines, write
from bench.jail.measure import measure_large, measure_memory, measure_small
from bench.provenance import command_line, provenance, refuse_full


@click.command("jail")
@click.option("--rounds", type=click.IntRange(min=1), default=50, help="Samples of what is timed.")
@click.option("--large-rounds", type=click.IntRange(min=0), default=50, help="Samples of what is timed with --gib.")
@click.option("--gib", type=click.FloatRange(min=0.01), default=1.0, help="Text of the large runs.")
@click.option("--jails", type=click.IntRange(min=1), default=50, help="Idle jails that are weighed, all at once.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for report.md and result.json.")
def jail_command(rounds: int, large_rounds: int, gib: float, jails: int, out: Path | None) -> int:
    """Time and weigh the jail. Exit code 0 whatever the figures."""
    refuse_full(out)
    made = provenance(command_line())

    def say(line: str) -> None:
        click.echo(line, err=True)

    async def measured() -> dict[str, list[Figure]]:
        sections = {"A jail": [*await measure_small(rounds, say), *await measure_memory(jails)]}
        if large_rounds:
            sections["Large texts"] = await measure_large(large_rounds, int(gib * (1 << 30)), say)
        return sections

    sections = asyncio.run(measured())
    for name, figures in sections.items():
        click.echo("\n".join([f"\n{name}\n", *lines(figures)]))
    if out is not None:
        write(out, "The jail, measured", sections, made, {"rounds": f"{rounds}, large {large_rounds}"})
    return 0
