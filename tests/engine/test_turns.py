"""The shipped turn grammar against real weights, at a heat at which a model writes nonsense."""

from __future__ import annotations

import io
import re
import tokenize

import pytest
from llguidance import LLMatcher, LLTokenizer

from rlm_local.engine.launch import LlamaEngine
from rlm_local.grammar import TurnState, decode_turn, turn_grammar
from rlm_local.types import Cell, Completion, Final, FinalVar, Malformed, Message, ReplyStop, Role, Sampling

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

ALLOWED = {TurnState.FIRST: Cell, TurnState.OPEN: (Cell, Final, FinalVar), TurnState.LAST: (Final, FinalVar)}
PROMPT = (
    Message(Role.USER, "How long is the text?"),
    Message(Role.ASSISTANT, "```repl\nprint(len(context))\n```"),
    Message(Role.USER, "1234"),
    Message(Role.ASSISTANT, "FINAL(1234)"),
    Message(Role.USER, "Which numbers does the text name, and where?"),
)
SEEDS = 4
LEFT_OPEN = re.compile(r"EOF in|unterminated|never closed|unmatched|does not match")
CLOSES = {")": "(", "]": "[", "}": "{"}


@pytest.mark.parametrize("state", list(TurnState))
async def test_a_turn_at_any_heat_is_of_the_kind_that_its_state_allows(smollm: LlamaEngine, state: TurnState) -> None:
    for seed in range(SEEDS):
        sampling = Sampling(temperature=1.5, top_k=3, seed=seed)
        grammar = turn_grammar(state, smollm.info.grammar_dialect)
        reply = await smollm.complete(Completion(PROMPT, 160, sampling, grammar))
        action = decode_turn(reply.text, reply.stop)
        if reply.stop is ReplyStop.LENGTH:
            # Hot replies seldom end by themselves; what was cut must be the beginning of a turn.
            assert isinstance(action, Malformed), reply.text
            assert begins(grammar, reply.text.rstrip("\ufffd")), reply.text
            continue
        assert isinstance(action, ALLOWED[state]), reply.text
        if isinstance(action, Cell):
            assert left_open(action.code) == "", reply.text


@pytest.mark.parametrize(
    ("code", "is_open"),
    [
        ("x = (1", True),
        ("x = (1]", True),
        ("x = 'a", True),
        ('x = """a', True),
        ("x = f('a(', [1]) # (", False),
        ("  odd $ 1indent\n but closed", False),
    ],
)
async def test_what_is_left_open_is_seen(code: str, is_open: bool) -> None:
    assert bool(left_open(code)) is is_open


def begins(grammar: str, text: str) -> bool:
    tokenizer = LLTokenizer("byte")
    tokens = tokenizer.tokenize_str(text)
    return bool(LLMatcher(tokenizer, grammar).try_consume_tokens(tokens) == len(tokens))


def left_open(code: str) -> str:
    """Return what shows that a string or a bracket of `code` does not end; whether it means anything is not asked."""
    brackets: list[str] = []
    try:
        # Within brackets indentation is free, as it is in the grammar.
        for token in tokenize.generate_tokens(io.StringIO(f"(\n{code}\n\n)").readline):
            if token.type == tokenize.ERRORTOKEN and token.string[:1] in {'"', "'"}:
                return token.string
            if token.type != tokenize.OP:
                continue
            if token.string in CLOSES.values():
                brackets.append(token.string)
            elif token.string in CLOSES and (not brackets or brackets.pop() != CLOSES[token.string]):
                return token.string
    except (tokenize.TokenError, SyntaxError) as error:
        return str(error) if LEFT_OPEN.search(str(error)) else ""
    return "".join(brackets)
