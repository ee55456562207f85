"""`rlm-local grammar`: what a turn may be, and whether a text is one."""

from __future__ import annotations

import click

from rlm_local.cli.inputs import read_bytes, read_json, refuse_stdin_twice
from rlm_local.cli.streams import write_result
from rlm_local.grammar import MAX_TEXT_BYTES, AnswerSchema, TurnState, refusal, turn_grammar
from rlm_local.trace import visible
from rlm_local.types import DEFAULT_GRAMMAR, DEFAULT_PROTOCOL, AnswerProtocol, GrammarMode

REFUSED = 1
MAX_SCHEMA_BYTES = 100_000
_MODES = [mode.value for mode in GrammarMode if mode is not GrammarMode.OFF]
_STATE = click.option(
    "--state",
    type=click.Choice([state.value for state in TurnState]),
    default=TurnState.OPEN.value,
    show_default=True,
    help="Of the turn: nothing was run yet, code or answer, answer only.",
)
_MODE = click.option("--mode", type=click.Choice(_MODES), default=DEFAULT_GRAMMAR.value, show_default=True)
_PROTOCOL = click.option(
    "--protocol",
    type=click.Choice([protocol.value for protocol in AnswerProtocol]),
    default=DEFAULT_PROTOCOL.value,
    show_default=True,
    help="How an answer is said; a model's card names its own.",
)
_SCHEMA = click.option("--answer-schema", "schema", default=None, metavar="FILE", help="JSON schema of the answer.")


@click.group()
def grammar() -> None:
    """Look at the language that a root's turns are held to."""


@grammar.command()
@click.option("--dialect", type=click.Choice(["lark", "ebnf", "gbnf"]), default="lark", show_default=True)
@_STATE
@_MODE
@_PROTOCOL
@_SCHEMA
def show(dialect: str, state: str, mode: str, protocol: str, schema: str | None) -> None:
    """Print the grammar of one turn."""
    text = _grammar(state, dialect, mode, protocol, schema)
    write_result(text.rstrip("\n"), kept="the grammars/ folder has the rules")


@grammar.command()
@_STATE
@_MODE
@_PROTOCOL
@_SCHEMA
@click.argument("file")
def accepts(state: str, mode: str, protocol: str, schema: str | None, file: str) -> int:
    """Say whether the text in FILE (`-` is standard input) is a whole turn. Exit code 0 for yes, 1 for no.

    A newline at its end is not counted.
    """
    refuse_stdin_twice(file, schema)
    # The newline that an editor, or echo, ends a text with is none of the turn's.
    text = read_bytes(file, MAX_TEXT_BYTES).removesuffix(b"\n")
    refused = refusal(_grammar(state, "lark", mode, protocol, schema), text)
    if refused is None:
        click.echo("yes")
        return 0
    found = f"found {refused.found!r}" if refused.found else "the text ends"
    click.echo(f"no: line {refused.line}, column {refused.column}: {visible(found)}")
    click.echo(f"could have come: {' '.join(refused.expected)}")
    return REFUSED


def _grammar(state: str, dialect: str, mode: str, protocol: str, schema: str | None) -> str:
    text = turn_grammar(
        TurnState(state),
        dialect,
        GrammarMode(mode),
        protocol=AnswerProtocol(protocol),
        answer=read_schema(schema),
    )
    return text or ""


def read_schema(file: str | None) -> AnswerSchema | None:
    """Return the schema in a file. Raises ConfigError, in one sentence, for whatever is wrong with it."""
    if file is None:
        return None
    return AnswerSchema(read_json(file, MAX_SCHEMA_BYTES))
