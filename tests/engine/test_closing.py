"""Endings over llguidance's bytes, which need no weights: whatever was begun can be ended, within what is left."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from rlm_local.engine.llama import ending
from rlm_local.engine.llama.closing import Closer, Closers
from rlm_local.engine.llama.ending import shortest_ending
from rlm_local.engine.llama.mask import LIMITS, Constraint, Dialect
from rlm_local.errors import EngineRefused
from rlm_local.grammar import TurnState, turn_grammar
from rlm_local.grammar.distinct import DistinctNames
from rlm_local.types import AnswerProtocol, GrammarMode
from tests.grammar.cells import ACCEPTED

BYTES = LLTokenizer("byte")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 5}, "day": {"type": "string", "format": "date"}},
    "required": ["name", "day"],
    "additionalProperties": False,
}


def matcher_of(grammar: str) -> LLMatcher:
    matcher = LLMatcher(BYTES, grammar, limits=LIMITS)
    assert not matcher.get_error()
    return matcher


PYTHON = matcher_of(turn_grammar(TurnState.OPEN, "lark", GrammarMode.PYTHON) or "")
SKELETON = matcher_of(turn_grammar(TurnState.OPEN, "lark", GrammarMode.SKELETON) or "")


def after(matcher: LLMatcher, text: bytes) -> LLMatcher:
    copy = matcher.deep_copy()
    assert copy.try_consume_tokens(list(text)) == len(text)
    return copy


def test_code_cut_anywhere_is_ended_by_phrases_alone_so_that_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the quickest search misses would hold up the thread that computes."""
    monkeypatch.setattr(ending, "MAX_STATES", 0)
    monkeypatch.setattr(ending, "MAX_COUNTED", 0)
    chance = Random(0)
    for code in ACCEPTED:
        turn = f"```repl\n{code}\n```".encode()
        cut = turn[: chance.randrange(len(turn))]
        found = shortest_ending(after(PYTHON, cut))
        assert found is not None, cut
        whole = (cut + found).decode()
        compile(whole.removeprefix("```repl\n").removesuffix("```"), "<cell>", "exec")


@pytest.mark.parametrize(
    "cut",
    [
        b"def chunk_text(text, size=8000, ov",
        b'def f(s):\n    for fmt in ("%Y", "%d.%m.%Y"):\n        try:\n   ',
        b'print("\xe2',
        b"if (m := ",
        b"@ca",
        b"def f(a, **kw) ",
        b"with open(a) ",
        b"try:",
        b"xs = [[cell.strip() fo",
        b"print(a if b else c i",
        b"print(f'{x if",
    ],
)
def test_what_a_search_byte_by_byte_misses_or_is_slow_to_find_is_ended(cut: bytes) -> None:
    found = shortest_ending(after(PYTHON, b"```repl\n" + cut))
    assert found is not None
    whole = (cut + found).decode()
    compile(whole.removesuffix("```"), "<cell>", "exec")


def test_a_name_that_a_list_has_already_does_not_end_it() -> None:
    cut = b"```repl\nf(key=lambda x, y=1, *"
    names = DistinctNames()
    names.feed(cut)
    assert shortest_ending(after(PYTHON, cut), names) == b"z:0)\n```"


@pytest.mark.parametrize("mode", [GrammarMode.SKELETON, GrammarMode.PYTHON])
@pytest.mark.parametrize(
    ("protocol", "cut", "shortest"),
    [
        (AnswerProtocol.PLAIN_FINAL, b"FINAL(It is", b")"),
        (AnswerProtocol.PLAIN_FINAL, b"FINAL(It (is", b")"),
        (AnswerProtocol.ANSWER, b"", b'```repl\nanswer["content"] = 0\nanswer["ready"] = True\n```'),
        (AnswerProtocol.ANSWER, b'```repl\nanswer["content"] = ["a', b'"]\nanswer["ready"] = True\n```'),
        (AnswerProtocol.FINAL_CALL, b"```repl\nFINAL(", b"0)\n```"),
        (AnswerProtocol.SUBMIT, b"```repl\nSUBMIT(answer", b")\n```"),
    ],
)
def test_a_turn_that_may_only_answer_is_ended_in_its_protocol(
    protocol: AnswerProtocol, cut: bytes, shortest: bytes, mode: GrammarMode
) -> None:
    last = matcher_of(turn_grammar(TurnState.LAST, "lark", mode, protocol=protocol) or "")
    assert shortest_ending(after(last, cut)) == shortest


@pytest.mark.parametrize(
    ("cut", "rest"),
    [
        (b"```repl\nf(x * (*a", b",))\n```"),  # a star alone in brackets makes a tuple
        (b"```repl\nf(x for a(b", b").x in 0)\n```"),  # a call is no target, an attribute of it is
        (b"```repl\nf(a, b not  # why", b"\n in 0)\n```"),  # a comment in brackets takes the line's rest
        (b"```repl\nf(g([1 +  # why", b"\n0]))\n```"),
        (b"```repl\nf(lambda a=b(c  # why", b"\n):0)\n```"),
    ],
)
def test_what_only_a_hot_model_begins_is_ended_by_phrases_too(
    cut: bytes, rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "MAX_STATES", 0)
    monkeypatch.setattr(ending, "MAX_COUNTED", 0)
    assert shortest_ending(after(PYTHON, cut)) == rest
    compile((cut + rest).decode().removeprefix("```repl\n").removesuffix("```"), "<cell>", "exec")


@pytest.mark.parametrize(
    ("cut", "shortest"),
    [
        (b"", b"```repl\n0\n```"),
        (b"I look", b"\n```repl\n0\n```"),
        (b"FINAL(", b"0)"),
        (b'FINAL(["a', b'"])'),
        (b"```repl\nx = ((1", b"))\n```"),
        (b"```repl\nprint(f'{x", b"}')\n```"),
        (b'```repl\nx = """a', b'"""\n```'),
        (b"```repl\nif x", b":0\n```"),
        (b"```repl\ntry:\n    x", b"\nfinally:0\n```"),
        (b"```repl\nfor x", b" in 0:0\n```"),
        (b"```repl\nx = 1 if y", b" else 0\n```"),
        (b"```repl\nx = 1", b"\n```"),
        (b"```repl\nx = '\xc3", None),  # inside of a character: any of its second bytes will do
    ],
)
def test_an_ending_is_as_short_as_the_language_allows(cut: bytes, shortest: bytes | None) -> None:
    found = shortest_ending(after(PYTHON, cut))
    assert found == shortest if shortest is not None else found is not None and len(found) == 6


@pytest.mark.parametrize(
    ("grammar", "cut", "size"),
    [
        (LLMatcher.grammar_from_regex("[0-9]{10}-[a-f]{4}"), b"123", 12),
        (LLMatcher.grammar_from_regex("a*"), b"aa", 0),
        (LLMatcher.grammar_from_regex("(yes|no), (indeed|never)!"), b"", 10),
        (LLMatcher.grammar_from_json_schema(json.dumps(SCHEMA)), b'{"name": "a', None),
    ],
)
def test_other_grammars_are_ended_too(grammar: str, cut: bytes, size: int | None) -> None:
    found = shortest_ending(after(matcher_of(grammar), cut))
    assert found is not None
    if size is not None:
        assert len(found) == size
    else:
        value = json.loads(cut + found)
        assert len(value["name"]) >= 5


@pytest.mark.parametrize("start", [PYTHON, SKELETON], ids=["python", "skeleton"])
def test_a_random_walk_of_any_budget_is_a_whole_turn(start: LLMatcher) -> None:
    """One byte is one token here, so that budgets are tight and every byte is a choice."""
    chance = Random(1)
    smallest = len(b"```repl\n0\n```")
    for _ in range(20):
        budget = chance.randrange(smallest, 120)
        closer = Closer(start.deep_copy(), encode=list)
        walk, text = start.deep_copy(), b""
        while len(text) < budget:
            mask = walk.compute_bitmask()
            byte = chance.choice([b for b in range(256) if mask[b // 8] >> (b % 8) & 1] or [0])
            if walk.is_stopped():
                break
            if not closer.admit(bytes([byte]), left=budget - len(text) - 1):
                text += bytes(closer.ending())
                break
            assert walk.consume_token(byte)
            text += bytes([byte])
        assert not closer.is_hopeless
        assert len(text) <= budget
        assert after(start, text).is_accepting(), text


def test_a_budget_below_the_shortest_sentence_is_hopeless_and_changes_nothing() -> None:
    closer = Closer(PYTHON.deep_copy(), encode=list)
    assert all(closer.admit(bytes([byte]), left=4 - at) for at, byte in enumerate(b"```re"))
    assert closer.is_hopeless


def test_a_grammar_of_special_tokens_is_refused_for_closing() -> None:
    closers = Closers(lambda: BYTES)
    with pytest.raises(EngineRefused, match="close_at_limit is not served"):
        closers.closer(Constraint(Dialect.GRAMMAR, 'start: "a" <|im_end|>'))


class Counted:
    """A matcher that tells how many of its copies were alive at once, and at how many places it was looked at."""

    alive = most = looked = 0

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._matcher, name)

    def deep_copy(self) -> Counted:
        return Counted(self._matcher.deep_copy())

    def compute_bitmask(self) -> bytes:
        Counted.looked += 1
        return bytes(self._matcher.compute_bitmask())


@pytest.mark.parametrize("cut", [b"```repl\nimport a.b as", b"```repl\nx = f'{a:", b"```repl\ntry:\n    x\nexc"])
def test_a_search_keeps_matchers_of_the_places_it_stood_at_and_not_of_all_that_it_saw(cut: bytes) -> None:
    """A matcher of Python is 110 KiB, and a search sees thousands of places."""
    Counted.alive = Counted.most = Counted.looked = 0
    assert shortest_ending(Counted(after(PYTHON, cut))) is not None
    assert 0 < Counted.most <= Counted.looked + 2  # the one that ends it, and one that is being tried
    assert Counted.alive == 0
