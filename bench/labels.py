"""The commands of `python -m bench` that concern labels of many lines: `classify` and `counts`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bench.classify import HELD_OUT, TASKS, measure
from bench.counts import count
from bench.haystack import DEFAULT_DATA
from bench.output import say, tell_result
from bench.provenance import command_line, provenance, refuse_full
from rlm_local.cards import DEFAULT_MODEL
from rlm_local.cli.values import Folder, Number
from rlm_local.config import home


@click.command("classify")
@click.option("--model", default=DEFAULT_MODEL, help="Name or alias of a model card; its weights must be pulled.")
@click.option("--task", type=click.Choice(sorted(TASKS)), default="trec", help="Which set of labelled lines.")
@click.option("--examples", type=click.IntRange(min=0), default=0, help="How many are given, as many of each label.")
@click.option("--passes", type=click.IntRange(1, 2), default=1, help="2 has the surest items as examples.")
@click.option("--items", type=click.IntRange(1, HELD_OUT), default=HELD_OUT, help="How many lines are classified.")
@click.option("--split", type=click.Choice(["record", "try"]), default="record", help="Which lines of the set.")
@click.option("--seed", type=int, default=1, help="Decides which examples are given.")
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default="../shared/data")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def classify_command(
    model: str, task: str, examples: int, passes: int, items: int, split: str, seed: int, data: Path, out: Path | None
) -> int:
    """Classify lines whose labels are known, through the code of `llm_classify`. Exit code 0 whatever the score."""
    refuse_full(out)
    found = asyncio.run(
        measure(
            model,
            home(),
            data,
            task=task,
            split=split,
            items=items,
            examples=examples,
            passes=passes,
            seed=seed,
            say=say,
        )
    )
    tell_result(found.as_object(), out, provenance(command_line()))
    return 0


@click.command("counts")
@click.option("--tokens", type=click.IntRange(min=1_000), default=131_072, help="Length of the document, about.")
@click.option("--accuracy", type=Number(0, 1), default=1.0, help="Share of lines that are labelled right.")
@click.option("--seed", type=int, default=0, help="Decides the lines and which of them are labelled wrong.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json.")
def counts_command(tokens: int, accuracy: float, seed: int, out: Path | None) -> int:
    """Count the lines of a long document by labels from a table: is any lost or doubled? No model is needed.

    Exit code 1 when not every line was labelled once.
    """
    refuse_full(out)
    found = asyncio.run(count(tokens, accuracy=accuracy, seed=seed, say=say))
    tell_result(found.as_object(), out, provenance(command_line()))
    return 0 if found.asked == found.lines == sum(found.counted.values()) else 1
