"""`python -m bench series`: many runs, named in a file, made piece by piece for as long as there is time.

First a quarter of the tasks of every run, then half, then all, so that a series that is not at its end tells something
of everything. Each piece is a `python -m bench run` of its own, which goes on behind the tasks that its folder has.
"""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from bench.arms.build import ARMS
from bench.compare import read_run
from bench.haystack import DEFAULT_DATA
from bench.measured import read_measured
from bench.output import RESULT, say
from bench.pages import write_report
from bench.run import ROWS
from bench.run_commands import INTERRUPTED
from bench.tasks.families import FAMILIES
from rlm_local.cli.values import Folder, Number
from rlm_local.errors import ConfigError
from rlm_local.strict_toml import StrictTable, read_table

SHARES = (0.25, 0.5, 1.0)
_FOLDER = re.compile(r"[\w./-]+")
_ARM = re.compile("|".join(map(re.escape, ARMS)))
STOP_S = 60.0  # for a run to close its engine and write what it has


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a series."""

    task: str
    tokens: int
    tasks: int
    arm: str
    max_seconds: float  # of one task

    @property
    def name(self) -> str:
        return f"{self.task}-{self.tokens}-{self.arm}"

    def done(self, out: Path) -> int:
        """Return how many of its tasks are in its folder."""
        return sum(1 for _ in (out / self.name / ROWS).glob("*.json"))


@dataclass(frozen=True, slots=True)
class Series:
    model: str
    seed: int
    runs: tuple[Planned, ...]
    beside: tuple[Path, ...] = ()  # folders of other benches, for the report

    def pieces(self) -> Iterator[tuple[Planned, int]]:
        """Yield each run with the tasks that it is to have then: in every round more, and never the same twice."""
        for at, share in enumerate(SHARES):
            for run in self.runs:
                tasks = math.ceil(run.tasks * share)
                if not at or tasks > math.ceil(run.tasks * SHARES[at - 1]):
                    yield run, tasks

    def command(self, run: Planned, tasks: int, data: Path, out: Path) -> list[str]:
        """Return the command that brings a run to so many tasks."""
        said = {"arm": run.arm, "model": self.model, "tokens": run.tokens, "tasks": tasks, "seed": self.seed}
        said |= {"max-seconds": f"{run.max_seconds:g}", "data": data, "out": out / run.name}
        options = [word for name, value in said.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "bench", "run", run.task, *options]


def read_series(path: Path) -> Series:
    """Return what a file names. Raises ConfigError for a field that is missing, unknown or out of its bounds."""
    top = read_table(path)
    model, seed = top.text("model"), top.count("seed")
    beside = top.optional_texts("beside", _FOLDER) or []
    runs = [run for table in top.tables("runs", required=True) for run in _runs(table)]
    top.finish()
    if len({run.name for run in runs}) < len(runs):
        raise ConfigError(f"{path}: two runs have the same task, tokens and arm")
    return Series(model, seed, tuple(runs), tuple(path.parent / name for name in beside))


def _runs(table: StrictTable) -> list[Planned]:
    task, tokens, tasks = table.one_of("task", tuple(FAMILIES)), table.count("tokens"), table.count("tasks")
    arms, max_seconds = table.texts("arms", _ARM), table.needed_number("max_seconds", 1, 86_400)
    table.finish()
    return [Planned(task, tokens, tasks, arm, max_seconds) for arm in arms]


@click.command("series")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=Folder(), required=True, help="Folder for the runs and their report.")
@click.option("--hours", type=Number(min=0), default=None, help="End after this long; by default at the end.")
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default="../shared/data")
def series_command(file: Path, out: Path, hours: float | None, data: Path) -> int:
    """Make the runs that FILE names, piece by piece, and a report of what there is. The same command goes on.

    Exit code 1 when a run could not be made, 130 after Ctrl-C.
    """
    series = read_series(file)
    stop = math.inf if hours is None else time.monotonic() + 3_600 * hours
    failed: dict[Planned, int] = {}
    code: int | None = 0
    for run, tasks in series.pieces():
        if run in failed or run.done(out) >= tasks:
            continue
        if time.monotonic() >= stop:
            break
        say(f"{run.name}: {run.done(out)} of {run.tasks} tasks are done; going on to {tasks}")
        code = make(series.command(run, tasks, data, out), stop - time.monotonic())
        if code == INTERRUPTED:
            break
        if code:
            failed[run] = code
    _report(series, out)
    for run, wrong in failed.items():
        say(f"{run.name}: ended with exit code {wrong}")
    if code == INTERRUPTED:
        return INTERRUPTED
    return 1 if failed else 0


def make(command: list[str], seconds: float) -> int | None:
    """Run a command for so long at most; return its exit code, None where the time has ended it."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            return process.wait(None if math.isinf(seconds) else max(0.0, seconds))
        except subprocess.TimeoutExpired:
            code = _end(process)
            return None if code == INTERRUPTED else code
        except KeyboardInterrupt:
            _end(process)
            return INTERRUPTED


def _end(process: subprocess.Popen[bytes]) -> int:
    """End a run, which keeps the tasks that are done, and return its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _report(series: Series, out: Path) -> None:
    # A run that was ended before its first task has a result too, of no task.
    made = [out / run.name for run in series.runs if run.done(out) and (out / run.name / RESULT).exists()]
    done, wanted = sum(run.done(out) for run in series.runs), sum(run.tasks for run in series.runs)
    say(f"{done} of {wanted} tasks are done")
    if made:
        runs = [read_run(folder) for folder in made]
        for path in write_report(runs, out, [read_measured(folder) for folder in series.beside]):
            click.echo(str(path))
