"""`python -m bench tune`: what suits a model best, measured on a training seed and written into its card.

`profile`: the prompt profile under which its runs score most. `route`: up to which length one direct request is as good
as a run. What is measured here is chosen by it, so figures that are told of a model come from other seeds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from bench.compare import Finished, compare_runs, comparison_line, read_run
from bench.haystack import DEFAULT_DATA
from bench.output import RESULT, say, write_result
from bench.paired import Comparison
from bench.provenance import command_line
from bench.report import summary_lines, write
from bench.run import Settings, run
from bench.run_commands import INTERRUPTED, MAX_SUBCALLS, most_tokens
from bench.tasks.families import FAMILIES
from rlm_local.cards import DEFAULT_MODEL, PROFILES, Card, find_card, load_cards, read_card
from rlm_local.cli.options import told_in_options
from rlm_local.cli.values import Folder
from rlm_local.config import home
from rlm_local.limits import Limits
from rlm_local.types import DEFAULT_GRAMMAR

TRAINING_SEED = 1_000_003  # of no figure that is told


class CutOffError(Exception):
    """A run was interrupted; its finished tasks are kept."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What came of it: the fields of the card that it decides, and in one sentence why."""

    fields: Mapping[str, str | int | None]  # None: the card is not to have it
    evidence: str


def choose_profile(present: str, runs: Mapping[str, Finished]) -> Choice:
    """Return the profile with the highest score; the present one where that is not clearly lower.

    Clearly: the whole interval of the difference, at 95 %, lies on one side of 0.
    """
    best = max(runs, key=lambda name: runs[name].summary["score"])
    taken = best if best != present and compare_runs(runs[present], runs[best]).low > 0 else present
    scores = ", ".join(f"{name} {one.summary['score']:.3f}" for name, one in runs.items())
    kept = "" if taken == best else f"; {best} is not clearly better"
    return Choice({"profile": taken}, f"profile {taken}: {scores} ({_asked(runs[present])}){kept}")


def choose_route(pairs: Sequence[tuple[Finished, Finished]]) -> Choice:
    """Return up to which length a direct request scores at least what a run does. pairs: direct and rlm, by length."""
    upto: int | None = None
    for direct, rlm in pairs:
        if direct.summary["score"] < rlm.summary["score"]:
            break
        upto = direct.result["tokens"]
    scores = ", ".join(
        f"{direct.result['tokens']:,} tokens {direct.summary['score']:.3f} and {rlm.summary['score']:.3f}"
        for direct, rlm in pairs
    )
    told = "no length" if upto is None else f"up to {upto:,} tokens"
    asked = _asked(pairs[0][0])
    return Choice({"direct_up_to_tokens": upto}, f"direct at {told}: direct and run score {scores} ({asked})")


def _asked(finished: Finished) -> str:
    asked = finished.result
    length = f", {asked['tokens']:,} tokens"
    return f"{len(asked['rows'])} tasks of {asked['task']}{length}, seed {asked['seed']}, {datetime.now(UTC):%Y-%m-%d}"


def with_choice(text: str, choice: Choice) -> str:
    """Return a card's text with the choice in it; all else stays as somebody wrote it."""
    head, bracket, tables = text.partition("\n[")
    for name, value in choice.fields.items():
        line = None if value is None else f"{name} = {json.dumps(value)}"
        head = _with_line(head, name, line)
    known = re.search(r"(?m)^evidence = (\[.*\])$", head)
    subject = choice.evidence.split()[0]  # what was found of the same before is out of date
    told = [one for one in json.loads(known[1]) if one.split()[0] != subject] if known else []
    head = _with_line(head, "evidence", f"evidence = {json.dumps([*told, choice.evidence], ensure_ascii=False)}")
    return head + bracket + tables


def _with_line(head: str, name: str, line: str | None) -> str:
    lines = head.rstrip("\n").split("\n")
    at = next((at for at, one in enumerate(lines) if one.startswith(f"{name} = ")), len(lines))
    lines[at : at + 1] = [] if line is None else [line]
    return "\n".join(lines) + "\n"


def write_choice(card: Card, choice: Choice) -> None:
    """Write the choice into the card's file. Raises ConfigError where that would break it, and leaves it alone."""
    text = with_choice(card.origin.read_text(encoding="utf-8"), choice)
    beside = card.origin.with_name(f".{card.origin.name}.part") / card.origin.name
    beside.parent.mkdir(exist_ok=True)
    try:
        beside.write_text(text, encoding="utf-8")
        read_card(beside)
        beside.replace(card.origin)
    finally:
        beside.unlink(missing_ok=True)
        beside.parent.rmdir()


@click.command("tune")
@click.argument("what", type=click.Choice(["profile", "route"]))
@click.option("--model", default=DEFAULT_MODEL, help="Name or alias of a model card; its weights must be pulled.")
@click.option("--task", type=click.Choice(list(FAMILIES)), default="mixed", metavar="TASK", help="See `bench run`.")
@click.option("--tokens", type=click.IntRange(min=1), multiple=True, default=(8_192,), help="Length; repeat for route.")
@click.option("--tasks", type=click.IntRange(min=2), default=16, help="Tasks of each run.")
@click.option("--seed", type=int, default=TRAINING_SEED, help="A seed that no figure is told of.")
@click.option("--max-seconds", type=float, default=Limits().wall_s, help="Wall clock of one task.")
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default="../shared/data")
@click.option("--out", type=Folder(), required=True, help="Folder for the runs; it goes on there.")
@click.option("--write", "writes", is_flag=True, help="Write what was chosen into the model's card.")
def tune_command(
    what: str,
    model: str,
    task: str,
    tokens: tuple[int, ...],
    tasks: int,
    seed: int,
    max_seconds: float,
    data: Path,
    out: Path,
    writes: bool,
) -> int:
    """Measure WHAT suits a model best: its prompt `profile`, or the `route` of short documents.

    The same command goes on where it was cut off. Exit code 130 after Ctrl-C.
    """
    card = find_card(model, load_cards())
    with told_in_options():
        limits = Limits(wall_s=max_seconds, max_tokens=most_tokens(max(tokens)), max_subcalls=MAX_SUBCALLS)
    asked = Settings(
        task=task,
        model=model,
        arm="rlm",
        tokens=tokens[0],
        tasks=tasks,
        seed=seed,
        data=data,
        out=out,
        window_tokens=None,
        kv_tokens=None,
        limits=limits,
        grammar=DEFAULT_GRAMMAR,
        command=command_line(),
    )
    try:
        choice = _profile(card, asked) if what == "profile" else _route(sorted({*tokens}), asked)
    except CutOffError:
        return INTERRUPTED
    click.echo(choice.evidence)
    write_result({"what": what, "model": card.name, **asdict(choice)}, out / "chosen")
    if writes:
        write_choice(card, choice)
        click.echo(f"written into {card.origin.name}")
    return 0


def _profile(card: Card, asked: Settings) -> Choice:
    assert asked.out is not None
    folder = asked.out
    runs = {name: finished(replace(asked, profile=name, out=folder / name)) for name in PROFILES}
    for name, one in runs.items():
        if name != card.profile:
            _tell(runs[card.profile], one, compare_runs(runs[card.profile], one))
    return choose_profile(card.profile, runs)


def _route(lengths: Sequence[int], asked: Settings) -> Choice:
    assert asked.out is not None
    folder, pairs = asked.out, []
    for length in lengths:
        direct, rlm = (
            finished(replace(asked, arm=arm, tokens=length, out=folder / f"{arm}-{length}"))
            for arm in ("direct", "rlm")
        )
        _tell(rlm, direct, compare_runs(rlm, direct))
        pairs.append((direct, rlm))
        if direct.summary["score"] < rlm.summary["score"]:
            break  # longer ones are no better for being asked
    return choose_route(pairs)


def finished(settings: Settings) -> Finished:
    """Return a run, of its folder where it is there to its end. Raises CutOffError where it was interrupted."""
    assert settings.out is not None
    if (settings.out / RESULT).exists():
        there = read_run(settings.out)
        if len(there.result["rows"]) == settings.tasks:
            return there
    ended = run(settings, home(), say)
    write(ended.result, settings.out)
    for line in summary_lines(ended.result):
        say(line)
    if ended.error is not None:
        raise ended.error
    if ended.interrupted:
        raise CutOffError
    return read_run(settings.out)


def _tell(first: Finished, second: Finished, found: Comparison) -> None:
    click.echo(comparison_line(first, second, found))
