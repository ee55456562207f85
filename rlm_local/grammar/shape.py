"""Which grammar a turn is held to: the language is one file, the state picks where it starts."""

from __future__ import annotations

from enum import StrEnum
from functools import cache

from rlm_local.errors import ConfigError
from rlm_local.rooms import room
from rlm_local.types import DEFAULT_GRAMMAR, GrammarMode

MAX_PROSE_LINES = 4  # before the block or the final; a small model that plans longer loses the thread


class TurnState(StrEnum):
    FIRST = "first"  # nothing was executed yet, so there is nothing an answer could rest on: code only
    OPEN = "open"  # code, or an answer
    LAST = "last"  # the turns, tokens or seconds are spent: an answer only


_START = {
    TurnState.FIRST: f"start: prose~0..{MAX_PROSE_LINES} block",
    TurnState.OPEN: f"start: prose~0..{MAX_PROSE_LINES} (block | final)",
    TurnState.LAST: "start: final",
}


@cache
def turn_grammar(state: TurnState, dialect: str, mode: GrammarMode = DEFAULT_GRAMMAR) -> str | None:
    """Return the grammar of one turn in an engine's dialect; None when there is to be none.

    Raises ConfigError for a dialect that has no generated form yet.
    """
    if mode is GrammarMode.OFF:
        return None
    if dialect != "lark":
        raise ConfigError(f"no turn grammar in dialect {dialect!r}; this build has 'lark'")
    rules = (room("grammars") / f"{mode}.lark").read_text(encoding="utf-8")
    return f"{_START[state]}\n{rules}"
