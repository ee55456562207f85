"""A question for a server that runs here already: its run is shown as one of our own."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlm_local import __version__
from rlm_local.cli.ending import ENDINGS, Ended, ended_by_signals
from rlm_local.cli.running import tell_answer
from rlm_local.cli.served import NoServer, Served, ServerRefused, reached
from rlm_local.cli.streams import Patient
from rlm_local.cli.view import open_view
from rlm_local.errors import RlmError
from rlm_local.events import RunEnded
from rlm_local.server.settings import Settings
from rlm_local.trace import decode_event, visible
from rlm_local.types import Answer, JsonObject, Request

_RUNS = "/v1/rlm/runs"
_OF_THE_FILE = ("v", "seq", "t", "at")  # of a line in a trace, besides its event
_LONGEST_NAME = 200  # of a document, in characters


def ask_server(
    request: Request,
    model: str,
    folder: Path,
    *,
    must_run: bool,
    only_own: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int | None:
    """Have the server of this folder answer, and return the exit code; None when none is there that can.

    model: the card's name. only_own: options given that a server does not take.
    Whether it was asked, or why not, is one line on standard error; nothing is said where no server runs, but that
    raises NoServer where one must.
    """
    notes = Patient(sys.stderr)
    try:
        found = asyncio.run(_answer(request, model, folder, must_run=must_run, only_own=only_own, quiet=quiet))
    except Ended as ended:
        notes.write(f"{ENDINGS[ended.signal]}\n")
        return ended.exit_code
    if found is None:
        return None
    answer, run = found
    return tell_answer(answer, folder / "runs" / f"{run}.jsonl", as_json=as_json, quiet=quiet)


async def _answer(
    request: Request, model: str, folder: Path, *, must_run: bool, only_own: tuple[str, ...], quiet: bool
) -> tuple[Answer, str] | None:
    notes = Patient(sys.stderr)

    def say(line: str) -> None:
        if not quiet:
            notes.write(f"{visible(line)}\n")

    with ended_by_signals():
        async with reached(folder) as server:
            if server is None:
                if must_run:
                    raise NoServer(folder, "leave --state out, and an engine is started for the question")
                return None
            try:
                run = await _started(server, request, model, only_own)
            except ServerRefused as refused:
                say(f"asked with an engine of its own, not the server's: {refused}")
                return None
            say(f"asked of the server at {server.presence.address}, process {server.presence.pid} (else: --own-engine)")
            try:
                return await _followed(server, run, quiet=quiet), run
            except asyncio.CancelledError:  # a signal
                with suppress(RlmError):
                    await server.call("POST", f"{_RUNS}/{run}/cancel")
                raise


async def _started(server: Served, request: Request, model: str, only_own: tuple[str, ...]) -> str:
    """Return the id of the run. Raises ServerRefused with the reason why the server is not asked."""
    presence = server.presence
    if presence.model != model:
        raise ServerRefused(f"it serves {presence.model}")
    if presence.version != __version__:
        raise ServerRefused(f"it is rlm-local {presence.version}")
    if only_own:
        raise ServerRefused(f"it takes no {', '.join(only_own)}")
    if any(len(document.name) > _LONGEST_NAME for document in request.documents):
        raise ServerRefused(f"it takes no document with a name of over {_LONGEST_NAME} characters")
    most = Settings().max_body_bytes
    if sum(len(document.text) for document in request.documents) > most:
        raise ServerRefused(f"it takes {most} bytes of documents in one request")
    return str((await server.call("POST", _RUNS, _body(request)))["id"])


def _body(request: Request) -> JsonObject:
    limits = request.limits
    bounds: JsonObject = {
        "max_turns": limits.max_turns,
        "max_subcalls": limits.max_subcalls,
        "max_tokens": limits.max_tokens,
        "max_prompt_tokens": limits.max_prompt_tokens,
        "max_completion_tokens": limits.max_completion_tokens,
        "max_cost": limits.max_cost,
        "max_depth": limits.max_depth,
        "max_concurrency": limits.max_concurrency,
        "max_seconds": limits.wall_s,
        "grammar": request.grammar.value,
    }
    return {
        "question": request.question,
        "documents": [{"name": each.name, "text": str(each.text)} for each in request.documents],
        "limits": {name: bound for name, bound in bounds.items() if bound is not None},
        "answer_schema": request.answer_schema,
        "require_coverage": request.require_coverage,
    }


async def _followed(server: Served, run: str, *, quiet: bool) -> Answer:
    """Show a run until it has ended, and return its answer. Raises RlmError when it has none."""
    answer: Answer | None = None
    with open_view(quiet=quiet, first="waiting for the server") as view:
        async for name, told in server.events(f"{_RUNS}/{run}/events"):
            if name == "ended":
                return _final(told, answer)
            if name == "error":
                raise RlmError(str(told["error"]["message"]))
            if "seq" in told:
                event = decode_event({key: value for key, value in told.items() if key not in _OF_THE_FILE})
                view.write(event)
                answer = event.answer if isinstance(event, RunEnded) else None
    raise RlmError("the server ended the stream of the run before its end", hint=f"`rlm-local runs` tells of {run}")


def _final(run: dict[str, Any], answer: Answer | None) -> Answer:
    if run["status"] != "done" or answer is None:
        said = run["error"]["message"] if run["error"] else f"the run was {run['status']}"
        raise RlmError(str(said))
    return answer
