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


_TURN = {
    TurnState.FIRST: "{prose} block",
    TurnState.OPEN: "{prose} (block | {final})",
    TurnState.LAST: "{final}",
}
_FILES = {"lark": "lark", "ebnf": "gbnf", "gbnf": "gbnf"}  # xgrammar's EBNF and GBNF are one notation here


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
    prose takes PROSE_SHARE at most. dialect: lark, ebnf or gbnf; the last two for PYTHON only, and without the
    condition that no list has a name twice. Raises ConfigError for another.
    """
    if mode is GrammarMode.OFF:
        return None
    if dialect not in _FILES or (dialect != "lark" and mode is not GrammarMode.PYTHON):
        raise ConfigError(
            f"no turn grammar in dialect {dialect!r} for mode {mode.value!r}; "
            "there are lark for both modes, ebnf and gbnf for python"
        )
    lines = max(1, min(MAX_PROSE_LINES, int(PROSE_SHARE * turn_tokens / LINE_TOKENS)))
    is_lark = dialect == "lark"
    final = "final" if answer is None else "typed_final" if is_lark else "typed-final"
    # Lark writes prose~0..4 too, but llguidance 1.7, which vLLM has, reads braces alone.
    turn = _TURN[state].format(prose=f"prose{{0,{lines}}}", final=final)
    typed = "" if answer is None or state is TurnState.FIRST else answer.lark() if is_lark else answer.bnf()
    return f"{'start:' if is_lark else 'root ::='} {turn}\n{_rules(mode, _FILES[dialect])}{typed}"


@cache
def _rules(mode: GrammarMode, ending: str) -> str:
    return (room("grammars") / f"{mode}.{ending}").read_text(encoding="utf-8")
