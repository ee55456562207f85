"""`rlm-local classify`, `extract`, `map` and `filter`: one item a line in, one JSON object a line out.

They are the calls of the same names that code in a run has (llm_classify and so on), and go through the same code.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TypeAlias

import click

from rlm_local.calls import FreeCaller, check_arguments, classify_all, in_order, judge_of, reader_of
from rlm_local.cards import DEFAULT_MODEL
from rlm_local.cli.ending import ENDINGS, Ended, ended_by_signals
from rlm_local.cli.grammar import MAX_SCHEMA_BYTES
from rlm_local.cli.inputs import json_of, read_bytes, read_json, refuse_stdin_twice
from rlm_local.cli.lines import check_items, read_lines
from rlm_local.cli.streams import Patient, write_result
from rlm_local.config import home
from rlm_local.errors import ConfigError
from rlm_local.limits import Limits
from rlm_local.plan import Plan, plan_runtime
from rlm_local.ports import BadCall
from rlm_local.runtime import start_runtime
from rlm_local.trace import visible
from rlm_local.types import CallKind, JsonValue, SubCall

SOME_FAILED = 3
MAX_EXAMPLES_BYTES = 2_000_000
MAX_LABELS_BYTES = 200_000
Args: TypeAlias = dict[str, JsonValue]
Row: TypeAlias = Callable[[SubCall], dict[str, JsonValue]]

_ITEMS = click.argument("items", metavar="ITEMS")
_MODEL = click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or alias of a model card.")
_WINDOW = click.option("--window", type=int, default=None, help="Tokens of one request; the model's card bounds it.")
_LONG = click.option(
    "--long",
    type=click.Choice(["split", "refuse"]),
    default="split",
    show_default=True,
    help="What becomes of an item that is longer than the window: read in pieces, or refused with its size.",
)
_REPLY = click.option(
    "--max-tokens", type=int, default=Limits().subcall_tokens, show_default=True, help="Of one reply."
)


@click.command()
@click.option(
    "--labels", required=True, metavar="FILE", help="JSON: a list of labels, or an object label: description."
)
@click.option("--examples", default=None, metavar="FILE", help="JSON lines of {item, label}: they make it much better.")
@click.option("--instruction", default=None, help="By what the items are to be told apart.")
@click.option(
    "--passes",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="2 reads the first 512 items twice, the second time after those of which it was surest.",
)
@click.option("--live", is_flag=True, help="Answer each line as it comes, with nothing learned from the other lines.")
@_LONG
@_MODEL
@_WINDOW
@_ITEMS
def classify(
    items: str,
    labels: str,
    examples: str | None,
    instruction: str | None,
    passes: int,
    live: bool,
    long: str,
    model: str,
    window: int | None,
) -> int:
    """Give each line of ITEMS (`-` is standard input) one of the labels: {item, label, confidence} a line.

    The first answers come when 512 items are scored, or all: from them is learned what the model prefers by itself, and
    with examples which words speak for which label. Exit code 3 when an item has no label; it says why.
    """
    if live and passes > 1:
        raise ConfigError("--live answers each line at once, but --passes 2 reads lines again; leave one of them out")
    refuse_stdin_twice(items, labels, examples)
    args: Args = {"labels": read_json(labels, MAX_LABELS_BYTES), "passes": passes, "long": long}
    if instruction is not None:
        args["instruction"] = instruction
    if examples is not None:
        args["examples"] = _read_examples(examples)
    return _run(CallKind.CLASSIFY, args, items, model, window, Limits().subcall_tokens, _labelled, live=live)


@click.command()
@click.option("--schema", required=True, metavar="FILE", help="JSON schema of the values.")
@click.option("--instruction", default=None, help="What to take from each item, where the schema does not say it.")
@_REPLY
@_LONG
@_MODEL
@_WINDOW
@_ITEMS
def extract(
    items: str, schema: str, instruction: str | None, max_tokens: int, long: str, model: str, window: int | None
) -> int:
    """Take a value of a JSON schema from each line of ITEMS (`-` is standard input): {item, value} a line.

    Exit code 3 when an item has no value; it says why.
    """
    refuse_stdin_twice(items, schema)
    args: Args = {"schema": read_json(schema, MAX_SCHEMA_BYTES), "long": long}
    if instruction is not None:
        args["instruction"] = instruction
    return _run(CallKind.EXTRACT, args, items, model, window, max_tokens, partial(_valued, "value"))


@click.command(name="map")
@click.option("--instruction", required=True, help="What to do with each item.")
@_REPLY
@_LONG
@_MODEL
@_WINDOW
@_ITEMS
def map_items(items: str, instruction: str, max_tokens: int, long: str, model: str, window: int | None) -> int:
    """Answer an instruction for each line of ITEMS (`-` is standard input): {item, answer} a line.

    Exit code 3 when an item has no answer; it says why.
    """
    args: Args = {"instruction": instruction, "long": long}
    return _run(CallKind.MAP, args, items, model, window, max_tokens, partial(_valued, "answer"))


@click.command(name="filter")
@click.option("--condition", required=True, help="What an item must be or say.")
@click.option("--sure", type=float, default=0.5, show_default=True, help="How likely that must be, 0 to 1.")
@_LONG
@_MODEL
@_WINDOW
@_ITEMS
def filter_items(items: str, condition: str, sure: float, long: str, model: str, window: int | None) -> int:
    """Say of each line of ITEMS (`-` is standard input) whether it meets a condition: {item, meets} a line.

    Exit code 3 when that is not known of an item; it says why.
    """
    args: Args = {"condition": condition, "sure": sure, "long": long}
    return _run(CallKind.FILTER, args, items, model, window, Limits().subcall_tokens, partial(_valued, "meets"))


def _labelled(done: SubCall) -> dict[str, JsonValue]:
    value = done.value if isinstance(done.value, dict) else {"label": None, "confidence": None}
    return {"item": done.prompt, **value}


def _valued(name: str, done: SubCall) -> dict[str, JsonValue]:
    return {"item": done.prompt, name: done.result if not done.refused else None}


def _run(
    kind: CallKind,
    args: Args,
    items: str,
    model: str,
    window: int | None,
    reply_tokens: int,
    row: Row,
    *,
    live: bool = False,
) -> int:
    if items != "-" and not Path(items).exists():
        raise ConfigError(f"{items} does not exist", hint="check the spelling; - is standard input")
    if reply_tokens < 1:
        raise ConfigError(f"--max-tokens is {reply_tokens}, but must be at least 1")
    try:
        check_arguments(kind, args, reply_tokens=reply_tokens)
    except BadCall as bad:
        raise ConfigError(_told_in_options(str(bad))) from bad
    check_items(items)
    plan = plan_runtime(model, home(), window_tokens=window, needs_jail=False)
    try:
        failed = asyncio.run(_print_all(plan, kind, args, items, reply_tokens, row, live=live))
    except BadCall as bad:
        raise ConfigError(str(bad)) from bad
    except Ended as ended:
        Patient(sys.stderr).write(f"{ENDINGS[ended.signal]}\n")
        return ended.exit_code
    return SOME_FAILED if failed else 0


async def _print_all(
    plan: Plan, kind: CallKind, args: Args, items: str, reply_tokens: int, row: Row, *, live: bool
) -> int:
    """Print a line for each item, as soon as it and those before it are done; return how many have failed."""
    failed = 0
    with ended_by_signals():
        async with start_runtime(plan, runs=0) as runtime:
            for warning in runtime.warnings:
                Patient(sys.stderr).write(f"warning: {visible(warning)}\n")
            caller = FreeCaller(runtime.engine, reply_tokens=reply_tokens)
            async with aclosing(await _results(caller, kind, args, items, live=live)) as results:
                async for done in results:
                    found = row(done)
                    if done.refused:
                        failed += 1
                        found["error"] = done.refused
                    write_result(json.dumps(found, ensure_ascii=sys.stdout.isatty()), kept="run it again")
    return failed


async def _results(
    caller: FreeCaller, kind: CallKind, args: Args, items: str, *, live: bool
) -> AsyncGenerator[SubCall, None]:
    lines = read_lines(items)
    if kind in (CallKind.CLASSIFY, CallKind.FILTER):
        return classify_all(await judge_of(caller, kind, args, live=live), lines)
    return in_order(lines, await reader_of(caller, kind, args))


def _told_in_options(said: str) -> str:
    """Return what is wrong with an argument, in the name of its option."""
    return re.sub(r"^(?=(instruction|condition|sure) )", "--", said)


def _read_examples(file: str) -> list[JsonValue]:
    examples: list[JsonValue] = []
    for number, line in enumerate(read_bytes(file, MAX_EXAMPLES_BYTES).splitlines(), start=1):
        if line.strip():
            examples.append(json_of(line, f"line {number} of {file}"))
    if not examples:
        raise ConfigError(f"{file} holds no example", hint="write {item, label} as JSON, one a line, or leave it out")
    return examples
