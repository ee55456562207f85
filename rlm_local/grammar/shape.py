"""Which grammar a turn is held to: the language is one file, the state picks where it starts."""

from __future__ import annotations

from enum import StrEnum
from functools import cache

from rlm_local.errors import ConfigError
from rlm_local.grammar.answer import AnswerSchema
from rlm_local.rooms import room
from rlm_local.types import DEFAULT_GRAMMAR, GrammarMode

MAX_PROSE_LINES = 4  # before the block or the final; a small model that plans longer loses the thread
PROSE_SHARE = 0.4  # of a turn's tokens, at most
LINE_TOKENS = 100  # of a line of prose at its longest: 400 characters at 4 a token


class TurnState(StrEnum):
    FIRST = "first"  # nothing was executed yet, so there is nothing an answer could rest on: code only
    OPEN = "open"  # code, or an answer
    LAST = "last"  # the turns, tokens or seconds are spent: an answer only


_START = {
    TurnState.FIRST: "start: {prose} block",
    TurnState.OPEN: "start: {prose} (block | {final})",
    TurnState.LAST: "start: {final}",
}


def turn_grammar(
    state: TurnState,
    dialect: str,
    mode: GrammarMode = DEFAULT_GRAMMAR,
    *,
    answer: AnswerSchema | None = None,
    turn_tokens: int = 1024,
) -> str | None:
    """Return the grammar of one turn in an engine's dialect; None when there is to be none.

    answer: the type of the literal in FINAL(...); any literal without it. turn_tokens: the turn's limit, of which
    prose takes PROSE_SHARE at most. Raises ConfigError for a dialect that has no generated form yet.
    """
    if mode is GrammarMode.OFF:
        return None
    if dialect != "lark":
        raise ConfigError(f"no turn grammar in dialect {dialect!r}; this build has 'lark'")
    lines = max(1, min(MAX_PROSE_LINES, int(PROSE_SHARE * turn_tokens / LINE_TOKENS)))
    start = _START[state].format(prose=f"prose~0..{lines}", final="final" if answer is None else "typed_final")
    typed = "" if answer is None or state is TurnState.FIRST else answer.lark()
    return f"{start}\n{_rules(mode)}{typed}"


@cache
def _rules(mode: GrammarMode) -> str:
    return (room("grammars") / f"{mode}.lark").read_text(encoding="utf-8")
