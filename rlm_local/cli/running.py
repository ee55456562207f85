"""A run as a command: its signals, its view, its answer on standard output, and its exit code."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from rlm_local.cli.ending import ENDINGS, Ended, ended_by_signals
from rlm_local.cli.streams import Patient, is_unicode, write_result
from rlm_local.cli.view import Tee, open_view
from rlm_local.errors import FanOutHeld, RlmError
from rlm_local.plan import Plan
from rlm_local.resume import Again, check_window
from rlm_local.runtime import start_runtime
from rlm_local.trace import TraceWriter, summary_lines, visible
from rlm_local.types import Answer, Request

UNCONFIRMED = 3

ask_before_option = click.option(
    "--ask-before",
    type=click.IntRange(min=0),
    default=None,
    metavar="N",
    help="Stop before a step that asks over N sub-calls; `resume` lets it.",
)


def run_and_tell(
    request: Request,
    plan: Plan,
    writer: TraceWriter,
    *,
    as_json: bool,
    quiet: bool,
    again: Again | None = None,
    ask_before: int | None = None,
) -> int:
    """Run a request, or let the run go on that is run `again`; return the exit code.

    The answer goes to standard output, all else to standard error.
    """
    notes = Patient(sys.stderr)
    try:
        answer = asyncio.run(_answer(request, plan, writer, quiet=quiet, again=again, ask_before=ask_before))
    except Ended as ended:
        kept = f"; trace: {writer.path}" if writer.path.exists() else ""
        notes.write(f"{ENDINGS[ended.signal]}{kept}\n")
        return ended.exit_code
    except FanOutHeld as held:
        held.hint = f"let it with: rlm-local resume {shlex.quote(str(writer.path))}"
        raise
    except RlmError:
        if writer.path.exists() and not quiet:
            notes.write(f"trace: {writer.path}\n")
        raise
    return tell_answer(answer, writer.path, as_json=as_json, quiet=quiet)


def tell_answer(answer: Answer, trace: Path, *, as_json: bool, quiet: bool) -> int:
    """Write an answer to standard output, and what it took to standard error; return the exit code."""
    _write_answer(answer, trace, as_json=as_json)
    if not quiet:
        Patient(sys.stderr).write("\n".join(["", *summary_lines(answer), f"trace: {trace}", ""]))
    return 0 if answer.confirmed else UNCONFIRMED


def as_object(answer: Answer, trace: Path) -> dict[str, object]:
    """Return the answer as `--json` prints it."""
    return {
        "answer": answer.value,
        "stop": answer.stop.value,
        "confirmed": answer.confirmed,
        "reason": answer.reason,
        "route": answer.route.value,
        "coverage": [
            {
                "document": one.document,
                "chars": one.chars,
                **{
                    name: [[stretch.start, stretch.end] for stretch in getattr(one, name)]
                    for name in ("printed", "given", "searched", "untouched")
                },
            }
            for one in answer.coverage
        ],
        "citations": [asdict(citation) for citation in answer.citations],
        "unfound": list(answer.unfound),
        "usage": {
            **asdict(answer.usage),
            "subcalls": answer.subcalls,
            "remembered": answer.remembered,
            "turns": answer.turns,
            "wall_s": round(answer.wall_s, 3),
        },
        "cost": asdict(answer.cost) if answer.cost else None,
        "trace": str(trace),
    }


async def _answer(
    request: Request, plan: Plan, writer: TraceWriter, *, quiet: bool, again: Again | None, ask_before: int | None
) -> Answer:
    """Run the request. Raises Ended for a signal, however far the run has come."""
    # The view only now, when no signal can fall between its beginning and its end: it hides the cursor.
    with ended_by_signals(), writer, open_view(quiet=quiet) as view:
        async with start_runtime(plan, runs=1) as runtime:
            for warning in runtime.warnings:
                view.note(f"warning: {visible(warning)}")
            for note in runtime.notes:
                view.note(visible(note))
            if again is not None:
                check_window(again, runtime)
            past = again.past() if again is not None else None
            return await runtime.ask(request, Tee(writer, view), past=past, ask_before=ask_before)


def _write_answer(answer: Answer, trace: Path, *, as_json: bool) -> None:
    if as_json:
        text = json.dumps(as_object(answer, trace), ensure_ascii=sys.stdout.isatty() or not is_unicode(sys.stdout))
    elif answer.value is None:
        return
    else:
        text = visible(answer.text) if sys.stdout.isatty() else answer.text
    write_result(text, kept=f"`rlm-local trace show {trace}` tells it again")
