"""The shipped turn grammar against real weights, at a heat at which a model writes nonsense."""

from __future__ import annotations

import io
import re
import tokenize

import httpx
import pytest
from llguidance import LLMatcher, LLTokenizer

from rlm_local.engine.launch import LlamaEngine
from rlm_local.grammar import TurnState, decode_turn, turn_grammar
from rlm_local.types import (
    Cell,
    Completion,
    Final,
    FinalVar,
    GrammarMode,
    Malformed,
    Message,
    ReplyStop,
    Role,
    Sampling,
)

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

ALLOWED = {TurnState.FIRST: Cell, TurnState.OPEN: (Cell, Final, FinalVar), TurnState.LAST: (Final, FinalVar)}
PROMPT = (
    Message(Role.USER, "How long is the text?"),
    Message(Role.ASSISTANT, "```repl\nprint(len(context))\n```"),
    Message(Role.USER, "1234"),
    Message(Role.ASSISTANT, "FINAL(1234)"),
    Message(Role.USER, "Which numbers does the text name, and where?"),
)
PROGRAM = (*PROMPT[:-1], Message(Role.USER, "Write a long program with functions, loops and try blocks."))
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


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("max_tokens", [8, 9, 11, 14, 18, 23, 30, 40, 55, 75])
async def test_no_token_limit_cuts_a_turn(smollm: LlamaEngine, max_tokens: int, temperature: float) -> None:
    grammar = turn_grammar(TurnState.FIRST, smollm.info.grammar_dialect, GrammarMode.PYTHON)
    sampling = Sampling(temperature=temperature, seed=max_tokens)
    reply = await smollm.complete(Completion(PROGRAM, max_tokens, sampling, grammar, close_at_limit=True))
    assert reply.usage.completion_tokens <= max_tokens
    assert reply.stop in (ReplyStop.COMPLETE, ReplyStop.CLOSED), reply.text
    assert reply.text.endswith(reply.closed_text)
    action = decode_turn(reply.text, reply.stop)
    assert isinstance(action, Cell), reply.text
    compile(action.code, "<cell>", "exec")


async def test_where_no_turn_fits_the_reply_is_cut_and_says_so(smollm: LlamaEngine) -> None:
    grammar = turn_grammar(TurnState.FIRST, smollm.info.grammar_dialect, GrammarMode.PYTHON)
    reply = await smollm.complete(Completion(PROGRAM, 3, Sampling(), grammar, close_at_limit=True))
    assert (reply.stop, reply.closed_text, reply.usage.completion_tokens) == (ReplyStop.LENGTH, "", 3)


async def test_other_constraints_are_closed_on_request_only(raw: httpx.AsyncClient) -> None:
    body = {"model": "smollm2-135m", "prompt": "Digits:", "max_tokens": 12, "temperature": 0}
    body["structured_outputs"] = {"regex": '"[a-z0-9, ]{10,200}"'}
    choices = [
        (await raw.post("/v1/completions", json=body | more)).json()["choices"][0]
        for more in ({}, {"close_at_limit": True})
    ]
    cut, closed = choices
    assert cut["finish_reason"] == closed["finish_reason"] == "length"
    assert "closed_text" not in cut
    assert not cut["text"].endswith('"')
    assert closed["closed_text"].endswith('"')
    assert closed["text"].endswith(closed["closed_text"])
    assert closed["closed_tokens"] >= 1


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
