"""Which grammar a turn is held to: the language is one file, the state picks where it starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

from rlm_local.errors import ConfigError
from rlm_local.grammar.answer import AnswerSchema
from rlm_local.grammar.imports import only_imports
from rlm_local.rooms import room
from rlm_local.types import DEFAULT_GRAMMAR, DEFAULT_PROTOCOL, AnswerProtocol, GrammarMode

MAX_PROSE_LINES = 4  # before the block or the final; a small model that plans longer loses the thread
PROSE_SHARE = 0.4  # of a turn's tokens, at most
LINE_TOKENS = 100  # of a line of prose at its longest: 400 characters at 4 a token


class TurnState(StrEnum):
    FIRST = "first"  # something must be looked at first, for an answer to rest on: code only
    OPEN = "open"  # code, or an answer
    LAST = "last"  # the turns, tokens or seconds are spent: an answer only


# In a protocol that answers from code, any block may answer; a last one does nothing else.
_ANSWER = {
    AnswerProtocol.FINAL: "final",
    AnswerProtocol.PLAIN_FINAL: "plain_final",
    AnswerProtocol.ANSWER: "answer_block",
    AnswerProtocol.FINAL_CALL: "call_block",
    AnswerProtocol.SUBMIT: "submit_block",
}
_FILES = {"lark": "lark", "ebnf": "gbnf", "gbnf": "gbnf"}  # xgrammar's EBNF and GBNF are one notation here
_LEAF = re.compile(r"(?m)^LEAF[_-](?P<name>(?:NAME|WORD)(?:: | ::= ))")
_ANSWERED = re.compile(r"(?m)^answered(?:: | ::= )literal\n")


def turn_grammar(
    state: TurnState,
    dialect: str,
    mode: GrammarMode = DEFAULT_GRAMMAR,
    *,
    protocol: AnswerProtocol = DEFAULT_PROTOCOL,
    answer: AnswerSchema | None = None,
    may_recurse: bool = True,
    imports: Iterable[str] | None = None,
    turn_tokens: int = 1024,
) -> str | None:
    """Return the grammar of one turn in an engine's dialect; None when there is to be none.

    protocol: how the answer is said. answer: the type of its literal; any literal without it. What code answers with
    is the host's to check. may_recurse: False where no level is left below this node: then rlm_query and
    rlm_query_batched are no names. imports: the modules that may be imported, on a block's first lines; None for any,
    and without meaning for SKELETON. turn_tokens: the turn's limit, of which prose takes PROSE_SHARE at most.
    dialect: lark, ebnf or gbnf. The last two have neither the condition that no list has a name twice, nor, for
    SKELETON, a word for may_recurse; the host refuses what they let through. Raises ConfigError for another.
    """
    if mode is GrammarMode.OFF:
        return None
    if dialect not in _FILES:
        raise ConfigError(f"no turn grammar in dialect {dialect!r}; there are {', '.join(_FILES)}")
    is_lark = dialect == "lark"
    listed = None if imports is None or mode is GrammarMode.SKELETON else tuple(imports)
    rules = _rules(mode, _FILES[dialect], may_recurse, listed)
    if answer is not None:
        rules = _ANSWERED.sub("", rules) + (answer.lark() if is_lark else answer.bnf())
    start = _start(state, protocol, is_typed=answer is not None, turn_tokens=turn_tokens)
    return f"start: {start}\n{rules}" if is_lark else f"root ::= {start.replace('_', '-')}\n{rules}"


def _start(state: TurnState, protocol: AnswerProtocol, *, is_typed: bool, turn_tokens: int) -> str:
    """Return what a turn is, in both notations but for the names' underscores."""
    # Bare text has no type, so a typed final is a literal.
    answer = _ANSWER[AnswerProtocol.FINAL if is_typed and not protocol.is_in_code else protocol]
    if state is TurnState.LAST:
        return answer
    lines = max(1, min(MAX_PROSE_LINES, int(PROSE_SHARE * turn_tokens / LINE_TOKENS)))
    # Lark writes prose~0..4 too, but llguidance 1.7, which vLLM has, reads braces alone.
    action = "block" if state is TurnState.FIRST or protocol.is_in_code else f"(block | {answer})"
    return f"prose{{0,{lines}}} {action}"


@lru_cache(maxsize=32)
def _rules(mode: GrammarMode, ending: str, may_recurse: bool, imports: tuple[str, ...] | None) -> str:
    rules = (room("grammars") / f"{mode}.{ending}").read_text(encoding="utf-8")
    if not may_recurse and (mode, ending) != (GrammarMode.SKELETON, "gbnf"):
        leaf = _LEAF.search(rules)
        if leaf is None:
            raise ConfigError(f"grammars/{mode}.{ending} has no names for a node that may not recurse")
        rules = re.sub(f"(?m)^{leaf['name']}.*\n", "", rules)
        rules = rules.replace(f"\n{leaf[0]}", f"\n{leaf['name']}")
    return rules if imports is None else only_imports(rules, imports)
