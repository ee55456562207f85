"""`rlm-local ask`: one question, some documents, one answer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

import click

from rlm_local.cards import DEFAULT_MODEL
from rlm_local.cli.ending import ENDINGS, Ended, ended_by_signals
from rlm_local.cli.grammar import read_schema
from rlm_local.cli.streams import Patient, is_unicode, write_result
from rlm_local.cli.view import Tee, open_view
from rlm_local.config import home
from rlm_local.documents import load
from rlm_local.errors import ConfigError, RlmError, TraceError
from rlm_local.limits import Limits
from rlm_local.runtime import Plan, plan_runtime, start_runtime
from rlm_local.trace import TraceWriter, default_path, summary_lines, visible
from rlm_local.types import DEFAULT_GRAMMAR, Answer, GrammarMode, Request

UNCONFIRMED = 3
DEFAULTS = Limits()
_OPTION_BY_FIELD = {
    "max_turns": "--max-turns",
    "wall_s": "--max-seconds",
    "max_tokens": "--max-tokens",
    "max_subcalls": "--max-subcalls",
}
_FIELD = re.compile(rf"\b({'|'.join(_OPTION_BY_FIELD)})\b")


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
@click.option(
    "--kv-tokens", type=int, default=None, help="Tokens that the engine keeps in memory; default: see `show`."
)
@click.option(
    "--grammar",
    type=click.Choice([mode.value for mode in GrammarMode]),
    default=DEFAULT_GRAMMAR.value,
    show_default=True,
    help="What the token mask holds a turn to: nothing, one closed block or answer, or a block that compiles.",
)
@click.option("--answer-schema", "schema", default=None, metavar="FILE", help="JSON schema that the answer must keep.")
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
    kv_tokens: int | None,
    grammar: str,
    schema: str | None,
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
    limits = _limits(max_turns=max_turns, wall_s=max_seconds, max_tokens=max_tokens, max_subcalls=max_subcalls)
    answer_type = read_schema(schema)
    where = home()
    plan = plan_runtime(model, where, window_tokens=window, kv_tokens=kv_tokens)
    writer = _writer(trace_dir, where.traces)
    # Last, because it may wait for somebody who types.
    loaded = load(paths, strict=strict, stdin=sys.stdin.buffer)
    notes = Patient(sys.stderr)
    for warning in loaded.warnings:
        notes.write(f"warning: {visible(warning)}\n")
    request = Request(
        _text(question), loaded.documents, limits, GrammarMode(grammar), answer_type.schema if answer_type else None
    )
    try:
        answer = asyncio.run(_answer(request, plan, writer, quiet=quiet))
    except Ended as ended:
        kept = f"; trace: {writer.path}" if writer.path.exists() else ""
        notes.write(f"{ENDINGS[ended.signal]}{kept}\n")
        return ended.exit_code
    except RlmError:
        if writer.path.exists() and not quiet:
            notes.write(f"trace: {writer.path}\n")
        raise
    _write_answer(answer, writer.path, as_json=as_json)
    if not quiet:
        notes.write("\n".join(["", *summary_lines(answer), f"trace: {writer.path}", ""]))
    return 0 if answer.confirmed else UNCONFIRMED


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


async def _answer(request: Request, plan: Plan, writer: TraceWriter, *, quiet: bool) -> Answer:
    """Run the request. Raises Ended for a signal, however far the run has come."""
    # The view only now, when no signal can fall between its beginning and its end: it hides the cursor.
    with ended_by_signals(), writer, open_view(quiet=quiet) as view:
        async with start_runtime(plan, runs=1) as runtime:
            for warning in runtime.warnings:
                view.note(f"warning: {visible(warning)}")
            return await runtime.ask(request, Tee(writer, view))


def _text(argument: str) -> str:
    """Return an argument without what surrounds it; bytes of it that are no UTF-8 become U+FFFD."""
    return os.fsencode(argument).decode("utf-8", "replace").strip()


def _limits(**fields: float) -> Limits:
    """Return the limits; what is wrong with them is told in the names of the options."""
    try:
        return Limits(**fields)  # type: ignore[arg-type]  # max_turns and its like are int, as their options are
    except ConfigError as error:
        said = re.sub(_FIELD, lambda name: _OPTION_BY_FIELD[name[0]], str(error))
        raise ConfigError(said, hint=error.hint) from error


def _writer(named: Path | None, usual: Path) -> TraceWriter:
    try:
        return TraceWriter(default_path(named or usual))
    except TraceError as error:
        if named is None:
            raise
        raise ConfigError(str(error), hint=error.hint) from error


def _write_answer(answer: Answer, trace: Path, *, as_json: bool) -> None:
    if as_json:
        text = json.dumps(as_object(answer, trace), ensure_ascii=sys.stdout.isatty() or not is_unicode(sys.stdout))
    elif answer.value is None:
        return
    else:
        text = visible(answer.text) if sys.stdout.isatty() else answer.text
    write_result(text, kept=f"`rlm-local trace show {trace}` tells it again")
