"""`rlm-local trace`: look at what a run did, from its file alone."""

from __future__ import annotations

import asyncio
import json
import reprlib
import sys
from pathlib import Path

import click

from rlm_local.cli.streams import write_lines
from rlm_local.config import home
from rlm_local.errors import ConfigError
from rlm_local.export import rl, sft
from rlm_local.resume import read_again, replay
from rlm_local.trace import Trace, encode_event, read_trace, run_lines, visible

DIFFERENT = 1


def existing_trace(file: Path) -> Trace:
    """Read a trace. Raises ConfigError, with where traces are, when there is no such file."""
    if not file.exists():
        raise ConfigError(
            f"{file} does not exist", hint=f"traces are kept in {home().traces}, unless --trace-dir said so"
        )
    return read_trace(file)


@click.group()
def trace() -> None:
    """Look at the traces of earlier runs."""


@trace.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one object: started_at, truncated, events with times.")
def show(file: Path, *, as_json: bool) -> None:
    """Draw a run again from its trace FILE."""
    run = existing_trace(file)
    if as_json:
        events = [{"t": seconds, **encode_event(event)} for seconds, event in zip(run.times_s, run.events, strict=True)]
        click.echo(json.dumps({"started_at": run.started_at.isoformat(), "truncated": run.truncated, "events": events}))
        return
    write_lines(run_lines(run.events))
    if run.truncated:
        click.echo(f"warning: the last line of {file} was cut off; what it told is lost", err=True)


@trace.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def replay_command(file: Path, paths: tuple[str, ...]) -> int:
    """Go through the run of the trace FILE again without an engine, and compare.

    Its code runs in a real jail over the same documents (PATH: those that are now elsewhere); what the engine said
    is taken from the trace. Prints every difference from what the trace tells. Exit code 0 for none, 1 for any.
    """
    found = asyncio.run(replay(read_again(existing_trace(file), paths)))
    for line in found:
        click.echo(visible(line))
    if not found:
        click.echo("the same events")
    return DIFFERENT if found else 0


@trace.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "kind", type=click.Choice(["sft", "rl"]), required=True, help="Conversations, or steps.")
@click.option(
    "--rewards",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="JSON object from a trace's file name to its scorer's value; for --format rl.",
)
def export(files: tuple[Path, ...], kind: str, rewards: Path | None) -> None:
    """Print the runs of traces FILE... as training data, a JSON object a line.

    What the model itself wrote is marked (own); docs/training.md has an example of either format. Runs are told apart
    by their files' names without the folders, so no two may be equal.
    """
    if rewards is not None and kind == "sft":
        raise ConfigError("--rewards goes with --format rl; conversations have none")
    _refuse_equal_names(files)
    values = _rewards(rewards)
    for file in files:
        run = existing_trace(file)
        if run.answer is None:
            click.echo(visible(f"warning: {file} has no end; of its run only whole turns are told"), err=True)
        for line in sft(run) if kind == "sft" else rl(run, values.get(file.name)):
            click.echo(json.dumps(line, ensure_ascii=False))


def _refuse_equal_names(files: tuple[Path, ...]) -> None:
    """Raise ConfigError for two traces of one name: a line tells its run, and a reward its trace, by the name alone."""
    file_by_name: dict[str, Path] = {}
    for file in files:
        if (other := file_by_name.setdefault(file.name, file)) is not file:
            raise ConfigError(
                f"{other} and {file} have one name, {file.name}, by which lines and rewards tell runs apart",
                hint="rename one of them, or give them in two commands",
            )


def _rewards(file: Path | None) -> dict[str, float]:
    if file is None:
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict) or not all(type(value) in (int, float) for value in values.values()):
        raise ConfigError(f"{file} must be a JSON object from a trace's file name to a number")
    # NaN and infinities, which Python reads and JSON has no words for; and what no float holds.
    wrong = [name for name, value in values.items() if not abs(value) <= sys.float_info.max]
    if wrong:
        raise ConfigError(
            f"{file}: the reward of {wrong[0]} is {reprlib.repr(values[wrong[0]])}, but must be within "
            f"±{sys.float_info.max:.2g}",
            hint="give numbers that are finite",
        )
    return {name: float(value) for name, value in values.items()}
