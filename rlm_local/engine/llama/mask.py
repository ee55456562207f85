"""Grammars as token masks, by llguidance."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits
from numpy.typing import NDArray

from rlm_local.engine.llama.name_tokens import NameTokens
from rlm_local.errors import EngineRefused
from rlm_local.grammar.distinct import CONDITION, DistinctNames

_COMPILED = 64  # grammars kept; a run uses a handful
# A mask deep in brackets of the turn's Python may take more items than llguidance's own 50,000.
LIMITS = LLParserLimits(step_max_items=1_000_000, step_lexer_fuel=2_000_000)
_CONDITION = re.compile(r"^// condition: (.*)$", re.MULTILINE)  # what a grammar wants beside its rules


class Dialect(StrEnum):
    """The fields of `structured_outputs`, named as vLLM names them."""

    GRAMMAR = "grammar"  # llguidance's Lark
    REGEX = "regex"
    JSON = "json"  # a JSON schema
    CHOICE = "choice"  # one of these texts


@dataclass(frozen=True, slots=True)
class Constraint:
    dialect: Dialect
    source: str  # grammar or regex as given; schema or choices as JSON

    def choices(self) -> list[str]:
        """Return the texts of a CHOICE, each once."""
        return list(dict.fromkeys(json.loads(self.source)))

    @property
    def wants_distinct_names(self) -> bool:
        """Raises EngineRefused when the grammar names a condition that this build does not know."""
        wanted = set(_CONDITION.findall(self.source)) if self.dialect is Dialect.GRAMMAR else set()
        if unknown := wanted - {CONDITION}:
            raise EngineRefused(f"the grammar has a condition that this build lacks: {', '.join(sorted(unknown))}")
        return bool(wanted)

    def lark(self) -> str:
        """Return the grammar as llguidance's constructor takes it."""
        match self.dialect:
            case Dialect.GRAMMAR:
                return str(LLMatcher.grammar_from_lark(self.source))
            case Dialect.REGEX:
                return str(LLMatcher.grammar_from_regex(self.source))
            case Dialect.JSON:
                return str(LLMatcher.grammar_from_json_schema(self.source))
            case Dialect.CHOICE:
                choices = " | ".join(json.dumps(text, ensure_ascii=False) for text in self.choices())
                return str(LLMatcher.grammar_from_lark(f"start: {choices}"))


class Mask:
    """Where one reply stands in its grammar.

    names: of a grammar whose lists of names must be distinct, the vocabulary by the names that its tokens end.
    Methods raise EngineRefused when llguidance gives up (a state too large for its limits).
    """

    def __init__(self, matcher: Any, *, ends: frozenset[int], vocab_size: int, names: NameTokens | None = None) -> None:
        self._matcher = matcher
        self._ends = ends
        self._vocab_size = vocab_size
        self._names = names
        self._read = DistinctNames()  # the reply; stays at its start where no names are asked for

    def allows(self, token: int) -> bool:
        """An end token is allowed where the grammar accepts, any other where it can still become a sentence."""
        if token in self._ends:
            return bool(self._matcher.is_accepting())
        if self._matcher.validate_tokens([token]) != 1:
            return False
        return self._names is None or self._read.copy().feed(self._names.pieces[token])

    def allowed(self) -> NDArray[np.bool_]:
        """Return which tokens may come next, (vocab,). 1 to 4 ms for 151,936 tokens."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()  # a mask that failed allows the end tokens alone
        allowed = np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)
        if self._names is not None:
            self._names.strike(allowed, self._read)
        if not allowed.any():
            raise EngineRefused("the grammar allows no token of this vocabulary here")
        return allowed

    def advance(self, token: int) -> None:
        """Take an allowed token that is no end token."""
        if not self._matcher.consume_token(token):
            self._check()
        if self._names is not None:
            self._read.feed(self._names.pieces[token])

    @property
    def finished(self) -> bool:
        """The sentence is whole and nothing can follow it."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if error := self._matcher.get_error():
            said = error.partition("\n")[0]  # what follows is the whole grammar
            raise EngineRefused(f"the grammar failed while the reply was written: {said}")


class Grammars:
    """Compiled grammars, kept by their text.

    tokenizer: called once, when the first grammar comes; about a second of work unless it was done ahead.
    """

    def __init__(self, tokenizer: Callable[[], Any], *, ends: frozenset[int], vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._vocab_size = vocab_size
        self._compiled: OrderedDict[Constraint, Any] = OrderedDict()
        self._name_tokens: NameTokens | None = None

    def mask(self, constraint: Constraint) -> Mask:
        """Return a mask at the grammar's start. Raises EngineRefused with llguidance's words."""
        matcher = self._compiled.pop(constraint, None) or self._compile(constraint)
        self._compiled[constraint] = matcher
        if len(self._compiled) > _COMPILED:
            self._compiled.popitem(last=False)
        names = self._names() if constraint.wants_distinct_names else None
        return Mask(matcher.deep_copy(), ends=self._ends, vocab_size=self._vocab_size, names=names)

    def _names(self) -> NameTokens:
        if self._name_tokens is None:
            decode = self._tokenizer().decode_bytes
            self._name_tokens = NameTokens([decode([token]) for token in range(self._vocab_size)])
        return self._name_tokens

    def _compile(self, constraint: Constraint) -> Any:
        try:
            matcher = LLMatcher(self._tokenizer(), constraint.lark(), log_level=0, limits=LIMITS)
        except ValueError as error:
            raise EngineRefused(f"the {constraint.dialect} does not compile: {error}") from error
        if said := matcher.get_error():
            raise EngineRefused(f"the {constraint.dialect} does not compile: {said}")
        return matcher
