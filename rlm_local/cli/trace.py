"""`rlm-local trace`: look at what a run did, from its file alone."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rlm_local.config import home
from rlm_local.errors import ConfigError
from rlm_local.trace import encode_event, read_trace, run_lines


@click.group()
def trace() -> None:
    """Look at the traces of earlier runs."""


@trace.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one object: started_at, truncated, events with times.")
def show(file: Path, *, as_json: bool) -> None:
    """Draw a run again from its trace FILE."""
    if not file.exists():
        raise ConfigError(
            f"{file} does not exist", hint=f"traces are kept in {home().traces}, unless --trace-dir said so"
        )
    run = read_trace(file)
    if as_json:
        events = [{"t": seconds, **encode_event(event)} for seconds, event in zip(run.times_s, run.events, strict=True)]
        click.echo(json.dumps({"started_at": run.started_at.isoformat(), "truncated": run.truncated, "events": events}))
        return
    for line in run_lines(run.events):
        click.echo(line)
    if run.truncated:
        click.echo(f"warning: the last line of {file} was cut off; what it told is lost", err=True)
