"""`rlm-local ask`: one question, some documents, one answer."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from rlm_local.cards import DEFAULT_MODEL
from rlm_local.cli.view import Tee, open_view
from rlm_local.config import Home, home
from rlm_local.documents import load
from rlm_local.errors import ConfigError
from rlm_local.limits import Limits
from rlm_local.ports import Recorder
from rlm_local.runtime import open_runtime
from rlm_local.trace import TraceWriter, default_path, summary_lines, visible
from rlm_local.types import Answer, Request

UNCONFIRMED = 3
DEFAULTS = Limits()


@click.command()
@click.argument("question")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or alias of a model card.")
@click.option("--max-turns", type=int, default=DEFAULTS.max_turns, show_default=True, help="Root turns.")
@click.option("--max-seconds", type=float, default=DEFAULTS.wall_s, show_default=True, help="Wall clock of the run.")
@click.option(
    "--max-tokens", type=int, default=DEFAULTS.max_tokens, show_default=True, help="Prompt and completion tokens."
)
@click.option("--max-subcalls", type=int, default=DEFAULTS.max_subcalls, show_default=True, help="llm_query calls.")
@click.option("--window", type=int, default=None, help="Tokens of one request; the model's card bounds it.")
@click.option("--strict", is_flag=True, help="Refuse documents that are not valid UTF-8.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--trace-dir", type=click.Path(path_type=Path), default=None, help="Where the run's trace is kept.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing of the run, only the answer.")
def ask(
    question: str,
    paths: tuple[str, ...],
    model: str,
    max_turns: int,
    max_seconds: float,
    max_tokens: int,
    max_subcalls: int,
    window: int | None,
    strict: bool,
    as_json: bool,
    trace_dir: Path | None,
    quiet: bool,
) -> int:
    """Answer QUESTION from the files and folders PATH... (`-` is standard input).

    The answer goes to standard output, all else to standard error. Exit code 0 for a confirmed answer, 3 for
    an unconfirmed one.
    """
    if not question.strip():
        raise ConfigError("the question is empty")
    if not paths:
        raise ConfigError("no documents given", hint="name files or folders, or - for standard input")
    limits = Limits(
        max_turns=max_turns,
        wall_s=max_seconds,
        max_tokens=max_tokens,
        max_subcalls=max_subcalls,
    )
    loaded = load(paths, strict=strict, stdin=sys.stdin.buffer)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    request = Request(question.strip(), loaded.documents, limits)
    where = home()
    trace_path = default_path(trace_dir or where.traces)
    with ExitStack() as stack:
        writer = stack.enter_context(TraceWriter(trace_path))
        view = stack.enter_context(open_view(quiet=quiet))
        answer = asyncio.run(_answer(request, model, where, window, Tee(writer, view)))
    if as_json:
        click.echo(json.dumps(as_object(answer, trace_path), ensure_ascii=False))
    elif answer.value is not None:
        click.echo(visible(answer.text) if sys.stdout.isatty() else answer.text)
    if not quiet:
        click.echo("\n".join(["", *summary_lines(answer), f"trace: {trace_path}"]), err=True)
    return 0 if answer.confirmed else UNCONFIRMED


async def _answer(request: Request, model: str, where: Home, window: int | None, recorder: Recorder) -> Answer:
    async with open_runtime(model, where, window_tokens=window) as runtime:
        return await runtime.ask(request, recorder)


def as_object(answer: Answer, trace: Path) -> dict[str, object]:
    """Return the answer as `--json` prints it."""
    return {
        "answer": answer.value,
        "stop": answer.stop.value,
        "confirmed": answer.confirmed,
        "reason": answer.reason,
        "citations": [asdict(citation) for citation in answer.citations],
        "usage": {
            **asdict(answer.usage),
            "subcalls": answer.subcalls,
            "turns": answer.turns,
            "wall_s": round(answer.wall_s, 3),
        },
        "trace": str(trace),
    }
