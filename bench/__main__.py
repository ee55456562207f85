"""The command line: `python -m bench run TASK`, `engine`, `jail`, `soak` and `grammar`, from a clone's root."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

import click

from bench import hidden
from bench.effect import run_effect, table
from bench.engine.report import PAGE
from bench.engine.run import MEASUREMENTS, Plan, measure
from bench.fuzz_api import fuzz_api
from bench.haystack import DEFAULT_DATA
from bench.jail.commands import churn_command, fuzz_command, jail_command
from bench.killed import kill_and_resume
from bench.kills import Kills
from bench.labels import classify_command, counts_command
from bench.load_command import load_command
from bench.output import PROGRAM, say, tell_result
from bench.provenance import command_line, provenance, refuse_full
from bench.run_commands import INTERRUPTED, compare_command, mechanics_command, report_command, run_command
from bench.runtime_cost import measure as measure_cost
from bench.series import series_command
from bench.soak import KILL_WAVE, soak
from bench.tasks.families import FAMILIES
from bench.tune import tune_command
from rlm_local.cards import find_card, load_cards
from rlm_local.cli.options import told_in_options
from rlm_local.cli.values import Folder, Number
from rlm_local.config import home
from rlm_local.errors import ConfigError, RlmError
from rlm_local.limits import Limits
from rlm_local.store import Store
from rlm_local.types import GrammarMode

STOPPED = 75  # EX_TEMPFAIL: the same command goes on
DEFAULTS = Limits()
SMALL_MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def bench() -> None:
    """Measure models and ways of using them. Progress goes to standard error, the result to standard output."""


@bench.command("engine")
@click.argument("names", nargs=-1, type=click.Choice(["all", *MEASUREMENTS]))
@click.option("--out", type=Folder(), required=True, help="Folder for rows, report and chart.")
@click.option("--model", default=None, help="Model card to measure on; each measurement has its own.")
@click.option("--scale", type=Number(min=0.01), default=1.0, help="Share of the full number of requests.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="Repetitions of what is timed.")
@click.option("--minutes", type=Number(min=0), default=None, help="Begin nothing new after this long.")
@click.option(
    "--only", multiple=True, help="Measure only those whose name holds this text, or is it after a =; may be repeated."
)
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, help="Folder of the benchmark data.")
def engine_command(
    names: tuple[str, ...],
    out: Path,
    model: str | None,
    scale: float,
    rounds: int,
    minutes: float | None,
    only: tuple[str, ...],
    data: Path,
) -> int:
    """Measure the CPU engine: NAMES, `all` for every one. What is in the folder already is not measured again.

    The peers that it is compared with are those that `make bench-peers` has made ready.
    """
    if not names:
        raise ConfigError(
            "nothing is named that is to be measured", hint=f"name some of {', '.join(MEASUREMENTS)}; `all` takes hours"
        )
    made = provenance(command_line())
    plan = Plan(
        names=list(MEASUREMENTS) if "all" in names else names,
        folder=out,
        data=data,
        model=model,
        scale=scale,
        rounds=rounds,
        minutes=float("inf") if minutes is None else minutes,
        contestants=only,
    )
    is_whole = measure(plan, made, say)
    click.echo(str(out / PAGE))
    return 0 if is_whole else STOPPED


@bench.command("soak")
@click.option("--model", default="smollm2-135m", help="Name or alias of a model card; its weights must be pulled.")
@click.option("--requests", type=click.IntRange(min=1), default=2_000, help="How many requests in all.")
@click.option("--kills", type=click.IntRange(min=0), default=20, help="How often the engine's process is killed.")
@click.option("--seed", type=int, default=0, help="Decides the requests and the moments of the kills.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json and result.md.")
def soak_command(model: str, requests: int, kills: int, seed: int, out: Path | None) -> int:
    """Soak the CPU engine in mixed requests and kills. Exit code 1 when anything was not as it must be."""
    refuse_full(out)
    if kills * KILL_WAVE > requests:
        raise ConfigError(f"{kills} kills take {kills * KILL_WAVE} requests, but {requests} are asked for")
    card, store, made = find_card(model, load_cards()), Store(home()), provenance(command_line())
    setting = {"model": card.name, "weights": f"sha256 {store.sha256(card, 'llama')}", "requests": requests}
    setting |= {"kills": kills, "seed": seed}
    result = asyncio.run(
        soak(
            store.path(card, "llama"),
            card.name,
            requests=requests,
            kills=kills,
            seed=seed,
            say=say,
        )
    )
    if out is not None:
        result.write(out, setting, made)
    for line in result.lines():
        click.echo(line)
    return 1 if result.faults() else 0


@bench.command("fuzz-grammar")
@click.option("--seconds", type=Number(min=0), default=600.0, help="For so long, wall clock.")
@click.option("--seed", type=int, default=0, help="Decides all inputs.")
@click.option("--first", type=click.IntRange(min=0), default=0, help="Number of the first input; to see one again.")
def fuzz_grammar_command(seconds: float, seed: int, first: int) -> int:
    """Put arbitrary bytes, damaged cells and cut texts to the grammar and the decoder.

    Exit code 1 when one crashes, takes over a second, or is accepted and does not compile.
    """
    from bench.fuzz_grammar import fuzz  # llguidance comes with the extra `llama`

    found = fuzz(seconds, seed, say, first=first)
    for line in found.lines():
        click.echo(line)
    return 1 if found.faults else 0


@bench.command("fuzz-api")
@click.option("--schemathesis", type=PROGRAM, required=True, help="The program: `make fuzz-api`.")
@click.option("--model", default="smollm2-135m", help="Name or alias of a model card; its weights must be pulled.")
@click.option("--seconds", type=Number(min=1), default=600.0, help="For so long, wall clock.")
@click.option("--seed", type=int, default=0, help="Decides all requests, but not their order.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def fuzz_api_command(schemathesis: Path, model: str, seconds: float, seed: int, out: Path | None) -> int:
    """Ask a real server what schemathesis draws from its OpenAPI document.

    Exit code 1 for a 500, an answer that the document does not tell of, and a request that should have been refused.
    """
    refuse_full(out)
    card = find_card(model, load_cards())
    with TemporaryDirectory(prefix="rlm-fuzz-api-") as folder:
        found = fuzz_api(schemathesis.absolute(), card.name, seconds, seed, Path(folder), say)
    for line in found.said if found.faults else ():
        say(line)
    tell_result(found.as_object(), out, provenance(command_line()))
    return 1 if found.faults else 0


@bench.command("grammar")
@click.option("--derivations", type=click.IntRange(min=0), default=20_000, help="Random sentences of the source.")
@click.option("--walks", type=click.IntRange(min=0), default=2_000, help="Random walks of the mask that end.")
@click.option("--turns", type=click.IntRange(min=0), default=0, help="Turns of each model at temperature 1.5.")
@click.option("--turns-of", multiple=True, help="Those models; default: smollm2-135m and qwen2.5-coder-0.5b.")
@click.option("--statements", type=click.IntRange(min=0), default=3_000, help="Of this Python's own library.")
@click.option("--texts", type=click.IntRange(min=0), default=200, help="Random texts that all dialects judge.")
@click.option("--speed", type=click.IntRange(min=0), default=60, help="Cells that masks are timed on.")
@click.option("--vocabulary", default="qwen2.5-coder-0.5b", help="Model card whose tokens are used; must be pulled.")
@click.option("--xgrammar", type=PROGRAM, default=None, help="Python that has it: `make xgrammar`.")
@click.option("--seed", type=int, default=0, help="Decides sentences, walks, texts and statements.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def grammar_command(
    derivations: int,
    walks: int,
    turns: int,
    turns_of: tuple[str, ...],
    statements: int,
    texts: int,
    speed: int,
    vocabulary: str,
    xgrammar: Path | None,
    seed: int,
    out: Path | None,
) -> int:
    """Count what the grammar of whole turns lets through, refuses and costs; 0 leaves a part out.

    Exit code 1 when a block does not compile.
    """
    from bench.grammar import WALKERS, Counts, measure  # llguidance comes with the extra `llama`

    counts = Counts(derivations, walks, turns, turns_of or WALKERS, statements, texts, speed)
    found = measure(counts, vocabulary, seed, say, xgrammar)
    tell_result(found, out)
    return 1 if found["unsound"] else 0


@bench.command("grammar-effect")
@click.argument("models", nargs=-1)
@click.option(
    "--grammar",
    "modes",
    multiple=True,
    type=click.Choice([mode.value for mode in GrammarMode]),
    default=[mode.value for mode in GrammarMode],
    help="May be given several times.",
)
@click.option("--task", type=click.Choice(list(FAMILIES)), default="niah", metavar="TASK", help="Family, as for `run`.")
@click.option("--tokens", type=click.IntRange(min=1), default=131_072, help="Length of a task, with prompt and answer.")
@click.option("--tasks", type=click.IntRange(min=1), default=10, help="How many tasks for each model and grammar.")
@click.option("--seed", type=int, default=0, help="Decides everything that is drawn.")
@click.option("--max-turns", type=int, default=DEFAULTS.max_turns, help="Root turns of one task.")
@click.option("--max-seconds", type=float, default=DEFAULTS.wall_s, help="Wall clock of one task.")
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default="../shared/data")
@click.option("--out", type=Folder(), default=None, help="Folder for result and traces.")
def grammar_effect_command(
    models: tuple[str, ...],
    modes: tuple[str, ...],
    task: str,
    tokens: int,
    tasks: int,
    seed: int,
    max_turns: int,
    max_seconds: float,
    data: Path,
    out: Path | None,
) -> int:
    """Run the same tasks with each of MODELS (all small ones) and each grammar. Exit code 0 whatever the score."""
    refuse_full(out)
    with told_in_options():
        limits = Limits(max_turns=max_turns, wall_s=max_seconds)
    FAMILIES[task].check_data(data)
    effect = asyncio.run(
        run_effect(
            models or SMALL_MODELS,
            [GrammarMode(mode) for mode in modes],
            home(),
            provenance(command_line()),
            task=task,
            tokens=tokens,
            tasks=tasks,
            seed=seed,
            limits=limits,
            data=data,
            out=out,
            say=say,
        )
    )
    for line in table(effect.arms):
        click.echo(line)
    return 0


for command in (jail_command, churn_command, fuzz_command, classify_command, counts_command, load_command):
    bench.add_command(command)
for command in (run_command, compare_command, report_command, mechanics_command, tune_command, series_command):
    bench.add_command(command)


@bench.command("kills")
@click.option("--kills", type=click.IntRange(min=1), default=100, help="How often the server dies.")
@click.option("--seed", type=int, default=0, help="Decides the moments.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def kills_command(kills: int, seed: int, out: Path | None) -> int:
    """Kill a server by kill -9 at random moments: is an accepted run lost or doubled, or a reply paid for twice?

    HTTP, records, traces and jails are real, the engine knows the answers. Exit code 1 when any of it happened.
    """
    refuse_full(out)
    with TemporaryDirectory(prefix="rlm-kills-") as folder:
        found = Kills(Path(folder), kills, seed, say).go()
    tell_result(found.as_object(), out, provenance(command_line()))
    return 0 if found.is_clean else 1


@bench.command("hidden")
@click.option("--rounds", type=click.IntRange(min=20), default=1_200, help="Each has ten requests of every kind.")
@click.option("--seed", type=int, default=0, help="Decides their order.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def hidden_command(rounds: int, seed: int, out: Path | None) -> int:
    """Ask a server for keys, files and runs that are another's and such as never were, and compare answers and times.

    Exit code 1 when an answer differs, when times are not shown to lie within the bound of each other, or when a leak
    that is planted in another server does not show.
    """
    refuse_full(out)
    with TemporaryDirectory(prefix="rlm-hidden-") as folder:
        found = hidden.measure(Path(folder), rounds, seed, say)
    tell_result(found.as_object(), out, provenance(command_line()))
    for fault in found.faults():
        say(fault)
    return 1 if found.faults() else 0


@bench.command("killed-runs")
@click.option("--kills", type=click.IntRange(1, 60), default=20, help="At how many points a run is killed.")
@click.option("--seed", type=int, default=6, help="Decides the points.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def killed_runs_command(kills: int, seed: int, out: Path | None) -> int:
    """Kill runs of 64 sub-calls by SIGKILL and let each go on from its trace. No model is needed.

    Exit code 1 when one comes to another answer, or a sub-call is paid for twice.
    """
    refuse_full(out)
    found = kill_and_resume(kills, seed, say)
    tell_result(asdict(found), out, provenance(command_line()))
    for fault in found.faults():
        say(fault)
    return 1 if found.faults() else 0


@bench.command("runtime-cost")
@click.option("--turns", type=click.IntRange(min=3), default=100, help="Of the run whose turns are timed.")
@click.option("--batches", type=click.IntRange(min=1), default=9, help="Of a thousand sub-calls, for each call.")
@click.option("--tokens", type=click.IntRange(min=1), default=10_485_760, help="Of the documents, for memory.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def runtime_cost_command(turns: int, batches: int, tokens: int, out: Path | None) -> int:
    """Measure what a turn, a sub-call and a long document cost the runtime itself. No model is needed."""
    refuse_full(out)
    found = asyncio.run(measure_cost(turns=turns, batches=batches, tokens=tokens, say=say))
    tell_result(asdict(found), out, provenance(command_line()))
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run the command line and return its exit code. SIGTERM is taken as Ctrl-C: what was begun is put away."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = bench.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("\ninterrupted before the first task", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RlmError as error:
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"\nhint: {error.hint}", err=True)
        return error.exit_code
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
