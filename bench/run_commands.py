"""The commands of `python -m bench` that run tasks, and those that read what came of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import click

from bench.arms.build import ARMS
from bench.compare import compare_runs, comparison_line, read_run
from bench.haystack import DEFAULT_DATA
from bench.measured import is_run, read_measured
from bench.mechanics import Mechanics, measure_mechanics
from bench.output import say, write_result
from bench.pages import write_report
from bench.provenance import command_line, provenance, refuse_full
from bench.report import summary_lines, write
from bench.run import Settings, run
from bench.tasks.families import FAMILIES
from bench.tasks.task import Sources
from rlm_local.cards import DEFAULT_MODEL
from rlm_local.cli.options import told_in_options
from rlm_local.cli.values import Folder, Number
from rlm_local.config import home
from rlm_local.limits import Limits
from rlm_local.testing import AnsweringEngine
from rlm_local.types import DEFAULT_GRAMMAR, GrammarMode

INTERRUPTED = 130  # what shells report for a process that SIGINT ended
DEFAULTS = Limits()
MAX_SUBCALLS = 1_000_000  # tokens and seconds bound a run
MECHANICAL = ("oolong-trec", "oolong-spam", "oolong-subjectivity", "pairs")  # those with a program of their own
TOKENS_PER_TOKEN = 16  # of the text: room to have every line labelled, the same for every arm

LISTS = "\b\nTASK is one of:\n{tasks}\n\n\b\nARM is one of:\n{arms}".format(
    tasks="\n".join(f"  {family.name:20} {family.about}" for family in FAMILIES.values()),
    arms="\n".join(f"  {name:20} {about}" for name, about in ARMS.items()),
)


def most_tokens(length: int) -> int:
    """Return the tokens that a task of a length may take where nobody says otherwise."""
    return max(DEFAULTS.max_tokens, TOKENS_PER_TOKEN * length)


@click.command("run", epilog=LISTS)
@click.argument("task", type=click.Choice(list(FAMILIES)), metavar="TASK")
@click.option("--arm", type=click.Choice(list(ARMS)), default="rlm", metavar="ARM", help="The way of answering.")
@click.option("--model", default=DEFAULT_MODEL, help="Name or alias of a model card; its weights must be pulled.")
@click.option("--tokens", type=click.IntRange(min=1), default=131_072, help="Length of a task, with prompt and answer.")
@click.option("--tasks", type=click.IntRange(min=1), default=20, help="How many tasks.")
@click.option("--seed", type=int, default=0, help="Decides everything that is drawn.")
@click.option(
    "--grammar",
    type=click.Choice([mode.value for mode in GrammarMode]),
    default=DEFAULT_GRAMMAR.value,
    help="What a turn of the rlm arms is held to.",
)
@click.option("--typed", is_flag=True, help="Hold answers to the task's JSON schema.")
@click.option("--window", type=int, default=None, help="Tokens of one request; the model's card bounds it.")
@click.option("--kv-tokens", type=int, default=None, help="Tokens that the engine keeps in memory.")
@click.option("--max-turns", type=int, default=DEFAULTS.max_turns, help="Turns of one task.")
@click.option("--max-seconds", type=float, default=DEFAULTS.wall_s, help="Wall clock of one task.")
@click.option(
    "--max-tokens",
    type=int,
    default=None,
    help=f"Tokens of one task, cached ones included; by default {TOKENS_PER_TOKEN} times its length.",
)
@click.option("--max-subcalls", type=int, default=MAX_SUBCALLS, help="Sub-calls of one task.")
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default="../shared/data")
@click.option("--out", type=Folder(), default=None, help="Folder for result, rows and traces.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def run_command(
    task: str,
    arm: str,
    model: str,
    tokens: int,
    tasks: int,
    seed: int,
    grammar: str,
    typed: bool,
    window: int | None,
    kv_tokens: int | None,
    max_turns: int,
    max_seconds: float,
    max_tokens: int | None,
    max_subcalls: int,
    data: Path,
    out: Path | None,
    as_json: bool,
) -> int:
    """Run TASK and print score, cost and peak memory. Exit code 0 whatever the score, 130 after Ctrl-C.

    With --out every finished task is kept, and the same command goes on where it was cut off.
    """
    with told_in_options():
        limits = Limits(
            max_turns=max_turns,
            wall_s=max_seconds,
            max_tokens=most_tokens(tokens) if max_tokens is None else max_tokens,
            max_subcalls=max_subcalls,
        )
    settings = Settings(
        task=task,
        model=model,
        arm=arm,
        tokens=tokens,
        tasks=tasks,
        seed=seed,
        data=data,
        out=out,
        window_tokens=window,
        kv_tokens=kv_tokens,
        limits=limits,
        grammar=GrammarMode(grammar),
        command=command_line(),
        typed=typed,
    )
    ended = run(settings, home(), say)
    if out is not None:
        write(ended.result, out)
    if as_json:
        click.echo(json.dumps(ended.result.as_object(), ensure_ascii=False))
    for line in summary_lines(ended.result):
        click.echo(line, err=as_json)
    if ended.error is not None:
        raise ended.error
    return INTERRUPTED if ended.interrupted else 0


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as one JSON object.")
def compare_command(first: Path, second: Path, as_json: bool) -> int:
    """Compare SECOND with FIRST, folders of two runs of the same tasks: interval of the difference, and a test."""
    early, late = read_run(first), read_run(second)
    found = compare_runs(early, late)
    click.echo(json.dumps(asdict(found)) if as_json else comparison_line(early, late, found))
    return 0


@click.command("report")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=Folder(), required=True, help="Folder for report.md and report.html.")
def report_command(folders: tuple[Path, ...], out: Path) -> int:
    """Put the runs in FOLDERS side by side: a page, and one HTML file with plots that needs no network.

    Folders of other benches (engine, grammar, jail, load) follow them as they are. A notes.md in --out comes first.
    """
    runs = [folder for folder in folders if is_run(folder)]
    measured = [read_measured(folder) for folder in folders if folder not in runs]
    for path in write_report([read_run(folder) for folder in runs], out, measured):
        click.echo(str(path))
    return 0


@click.command("mechanics")
@click.argument("task", type=click.Choice(MECHANICAL))
@click.option("--tokens", type=click.IntRange(min=1_000), default=8_192, help="Length of a task, about.")
@click.option("--tasks", type=click.IntRange(min=1), default=20, help="How many tasks.")
@click.option("--accuracy", type=Number(0, 1), default=1.0, help="Share of lines that are labelled right.")
@click.option("--seed", type=int, default=0, help="Decides the tasks and the errors.")
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default="../shared/data")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def mechanics_command(
    task: str, tokens: int, tasks: int, accuracy: float, seed: int, data: Path, out: Path | None
) -> int:
    """Run TASK by its own program in a real jail, labelled from a table: no model is needed.

    Exit code 1 when an answer is not exactly what the labels come to.
    """
    refuse_full(out)

    async def measured() -> Mechanics:
        count = AnsweringEngine(lambda completion: "").count_tokens
        make = await FAMILIES[task].plan(Sources(data), tokens, seed, count)
        return await measure_mechanics([make(at) for at in range(tasks)], tokens, accuracy, seed, say)

    found = asyncio.run(measured())
    write_result(found.as_object(), out, provenance(command_line()))
    exact = sum(run.is_exact for run in found.runs)
    click.echo(
        f"{task}, {tokens} tokens, labelled right {accuracy:.0%}: score {found.score:.3f}, exact {exact} of {tasks}"
    )
    return 0 if exact == tasks else 1
