"""`rlm-local ask`: one question, some documents, one answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.cli.ask_server import ask_server
from rlm_local.cli.engines import OPTIONS, EngineOf, engine_options
from rlm_local.cli.grammar import read_schema
from rlm_local.cli.inputs import refuse_stdin_twice
from rlm_local.cli.options import told_in_options
from rlm_local.cli.packages import jail_packages_option
from rlm_local.cli.records import state_option
from rlm_local.cli.running import ask_before_option, run_and_tell
from rlm_local.cli.streams import Patient
from rlm_local.cli.values import Number
from rlm_local.config import home
from rlm_local.documents import check_there, load
from rlm_local.errors import ConfigError, RlmError, TraceError
from rlm_local.jail import Packages
from rlm_local.limits import Limits, priced, writing_at_most
from rlm_local.plan import Plan, default_depth, plan_runtime
from rlm_local.prompts import load_profile
from rlm_local.server.presence import read_presence
from rlm_local.trace import TraceWriter, default_path, visible
from rlm_local.types import DEFAULT_GRAMMAR, GrammarMode, Request, Route

DEFAULTS = Limits()
# What says how the engine and the jail of this command are to be: a server has its own.
_ONLY_OWN = {
    **OPTIONS,
    "window": "--window",
    "kv_tokens": "--kv-tokens",
    "packages": "--jail-packages",
    "route": "--route",
    "ask_before": "--ask-before",
    "trace_dir": "--trace-dir",
}


@click.command()
@click.argument("question")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or alias of a model card.")
@engine_options
@click.option("--max-turns", type=int, default=DEFAULTS.max_turns, show_default=True, help="Root turns.")
@click.option("--max-seconds", type=float, default=DEFAULTS.wall_s, show_default=True, help="Wall clock of the run.")
@click.option(
    "--max-tokens", type=int, default=DEFAULTS.max_tokens, show_default=True, help="Prompt and completion tokens."
)
@click.option("--max-subcalls", type=int, default=DEFAULTS.max_subcalls, show_default=True, help="llm_query calls.")
@click.option("--max-prompt-tokens", type=int, default=None, help="Of --max-tokens, those that prompts may take.")
@click.option("--max-completion-tokens", type=int, default=None, help="Of --max-tokens, those that may be written.")
@click.option(
    "--max-cost", type=float, default=None, help="What tokens may cost, by the price list of the model's card."
)
@click.option(
    "--max-depth", type=int, default=None, help="Levels below the root; default: 1 for small models, 2 for large ones."
)
@click.option(
    "--max-concurrency", type=int, default=DEFAULTS.max_concurrency, show_default=True, help="Requests at one time."
)
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
@click.option(
    "--route",
    type=click.Choice([route.value for route in Route]),
    default=Route.AUTO.value,
    show_default=True,
    help="A run, one direct request with the whole text, or what the model's card was measured for.",
)
@click.option("--answer-schema", "schema", default=None, metavar="FILE", help="JSON schema that the answer must keep.")
@click.option(
    "--require-coverage",
    type=Number(0.0, 1.0),
    default=0.0,
    metavar="SHARE",
    help="Of all characters, what models must have read for a confirmed answer, as 0.95.",
)
@ask_before_option
@jail_packages_option
@click.option("--strict", is_flag=True, help="Refuse documents that are not valid UTF-8.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--trace-dir", type=click.Path(path_type=Path), default=None, help="Where the run's trace is kept.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing of the run, only the answer.")
@click.option("--own-engine", is_flag=True, help="Start an engine also where a server runs that could answer.")
@state_option("Ask the server of this folder, which must run.")
def ask(
    question: str,
    paths: tuple[str, ...],
    model: str,
    engine_of: EngineOf,
    max_turns: int,
    max_seconds: float,
    max_tokens: int,
    max_subcalls: int,
    max_prompt_tokens: int | None,
    max_completion_tokens: int | None,
    max_cost: float | None,
    max_depth: int | None,
    max_concurrency: int,
    window: int | None,
    kv_tokens: int | None,
    grammar: str,
    route: str,
    schema: str | None,
    require_coverage: float,
    ask_before: int | None,
    packages: Packages,
    strict: bool,
    as_json: bool,
    trace_dir: Path | None,
    quiet: bool,
    own_engine: bool,
    state: Path | None,
) -> int:
    """Answer QUESTION from the files and folders PATH... (`-` is standard input).

    A server of yours that runs on this machine and serves the model is asked; else an engine is started for it.
    The answer goes to standard output, all else to standard error. Exit code 0 for a confirmed answer, 3 for
    an unconfirmed one, 4 for a run that waits for your word (--ask-before).
    """
    engine = engine_of(model)
    if not question.strip():
        raise ConfigError("the question is empty")
    if not paths:
        raise ConfigError("no documents given", hint="name files or folders, or - for standard input")
    limits = _limits(
        max_completion_tokens,
        max_turns=max_turns,
        wall_s=max_seconds,
        max_tokens=max_tokens,
        max_subcalls=max_subcalls,
        max_prompt_tokens=max_prompt_tokens,
        max_cost=max_cost,
        max_depth=DEFAULTS.max_depth if max_depth is None else max_depth,
        max_concurrency=max_concurrency,
    )
    refuse_stdin_twice(schema, *paths)
    answer_type = read_schema(schema)
    where = home()
    card = find_card(model, load_cards())
    folder = state or where.server
    with told_in_options():
        limits = priced(limits, card.price, card.name)
    writer = _writer(trace_dir, where.traces)
    check_there(paths)
    if max_depth is None:
        limits = replace(limits, max_depth=default_depth(load_profile(card.profile)))
    # Behind all that was asked wrongly, so that nobody pulls weights to learn of a file that is not there.
    plan = _plan_or_lack(
        partial(
            plan_runtime, model, where, window_tokens=window, kv_tokens=kv_tokens, packages=packages, engine=engine
        ),
        has_server=not own_engine and read_presence(folder) is not None,
    )
    # Last, because it may wait for somebody who types.
    loaded = load(paths, strict=strict, stdin=sys.stdin.buffer)
    notes = Patient(sys.stderr)
    for warning in loaded.warnings:
        notes.write(f"warning: {visible(warning)}\n")
    request = Request(
        _text(question),
        loaded.documents,
        limits,
        GrammarMode(grammar),
        answer_type.schema if answer_type else None,
        require_coverage,
        Route(route),
    )
    if not own_engine:
        code = ask_server(
            request,
            card.name,
            folder,
            must_run=state is not None,
            only_own=_only_own(),
            as_json=as_json,
            quiet=quiet,
        )
        if code is not None:
            return code
    if isinstance(plan, RlmError):
        raise plan
    return run_and_tell(request, plan, writer, as_json=as_json, quiet=quiet, ask_before=ask_before)


def _plan_or_lack(make: Callable[[], Plan], *, has_server: bool) -> Plan | RlmError:
    """Return the plan of an engine of our own, or what is lacking for one, which a server may do without."""
    try:
        return make()
    except ConfigError:
        raise
    except RlmError as lack:
        if not has_server:
            raise
        return lack


def _only_own() -> tuple[str, ...]:
    """Return the options given to this command that a server does not take."""
    source = click.get_current_context().get_parameter_source
    return tuple(option for name, option in _ONLY_OWN.items() if source(name) is ParameterSource.COMMANDLINE)


def _text(argument: str) -> str:
    """Return an argument without what surrounds it; bytes of it that are no UTF-8 become U+FFFD."""
    return os.fsencode(argument).decode("utf-8", "replace").strip()


def _limits(written: int | None, **fields: float | None) -> Limits:
    """Return the limits; what is wrong with them is told in the names of the options. written: see writing_at_most."""
    with told_in_options():
        limits = Limits(**fields)  # type: ignore[arg-type]  # max_turns and its like are int, as their options are
        return limits if written is None else writing_at_most(limits, written)


def _writer(named: Path | None, usual: Path) -> TraceWriter:
    try:
        return TraceWriter(default_path(named or usual))
    except TraceError as error:
        if named is None:
            raise
        raise ConfigError(str(error), hint=error.hint) from error
