"""Follows a reply to its token limit, where it ends the sentence of its grammar instead of cutting it.

Near its limit a reply is watched: a token after which the sentence could no longer be ended within the tokens
that are left is not taken, and the shortest ending is written in its place (ending.py), which is looked for on a
matcher of its own over bytes. Works for every grammar that llguidance takes but those that name special tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from rlm_local.engine.llama.ending import is_legal, shortest_ending
from rlm_local.engine.llama.mask import LIMITS, Constraint
from rlm_local.errors import EngineRefused
from rlm_local.grammar.distinct import DistinctNames

_BYTES = LLTokenizer("byte")
_COMPILED = 64  # grammars kept; a run uses a handful

NEAR_TOKENS = 16  # with fewer tokens to spare than this every token is watched


class Closer:
    """Follows one reply, and knows an ending for it that fits.

    matcher: over bytes, at the grammar's start. encode: tokens of the engine's vocabulary for bytes, one each at worst.
    names: reads the reply where no list may have a name twice.
    """

    def __init__(
        self, matcher: Any, *, encode: Callable[[bytes], list[int]], names: DistinctNames | None = None
    ) -> None:
        self._matcher = matcher
        self._names = names
        self._encode = encode
        self._text: bytes | None = None  # an ending from here, if it was looked for
        self._unwatched = 0  # tokens that may come before the next look
        self.is_hopeless = False  # no ending fits: the reply is cut as it would be without us

    def admit(self, piece: bytes, *, left: int) -> bool:
        """Take a token's bytes if the sentence can still be ended with `left` tokens after it; else False.

        Once False, `ending` has what fits in place of the token and all that may follow.
        """
        if self.is_hopeless:
            return True
        if self._unwatched and left >= NEAR_TOKENS:
            self._unwatched -= 1
            self._take(piece)
            return True
        after = self._matcher.deep_copy()
        if not after.consume_tokens(list(piece)):
            raise EngineRefused(f"the grammar failed while the reply was written: {after.get_error()}")
        names = self._names and self._names.copy()
        if names is not None:
            names.feed(piece)
        text, size = self._ending_of(after, names, piece, left)
        if text is None and left >= NEAR_TOKENS:  # the search gave up; there is time to look again
            self._unwatched = left // 8
        elif size > left:
            if self._fits(left + 1):
                return False
            self.is_hopeless = True
        else:
            self._unwatched = (left - size) // 4 if left - size >= NEAR_TOKENS else 0
        self._matcher, self._names, self._text = after, names, text
        return True

    def ending(self) -> list[int]:
        """Return the tokens that end the sentence, once admit() has said False: as many as are left at most."""
        return self._encode(self._text or b"")

    def _fits(self, left: int) -> bool:
        """Say whether an ending from here has at most `left` tokens, and keep it."""
        if self._text is None or len(self._encode(self._text)) > left:
            self._text = shortest_ending(self._matcher, self._names)
        return self._text is not None and len(self._encode(self._text)) <= left

    def _ending_of(self, after: Any, names: DistinctNames | None, piece: bytes, left: int) -> tuple[bytes | None, int]:
        """Return an ending after `piece` with its tokens: the known one where it fits still, else the shortest."""
        for known in self._known(piece):
            if _ends(after, known) and is_legal(names, known) and (size := len(self._encode(known))) <= left:
                return known, size
        text = shortest_ending(after, names)
        return text, left + 1 if text is None else len(self._encode(text))

    def _known(self, piece: bytes) -> Iterator[bytes]:
        if self._text is not None:
            if self._text.startswith(piece):  # the reply goes the way of the ending by itself
                yield self._text[len(piece) :]
            yield self._text

    def _take(self, piece: bytes) -> None:
        self._text = None
        if self._names is not None:
            self._names.feed(piece)
        if not self._matcher.consume_tokens(list(piece)):
            raise EngineRefused(f"the grammar failed while the reply was written: {self._matcher.get_error()}")


def _ends(matcher: Any, text: bytes) -> bool:
    probe = matcher.deep_copy()
    return bool(probe.try_consume_tokens(list(text)) == len(text) and probe.is_accepting())


class Closers:
    """Makes closers; grammars are compiled for bytes once, and kept by their text.

    tokenizer: llguidance's view of the engine's vocabulary, called once.
    """

    def __init__(self, tokenizer: Callable[[], Any]) -> None:
        self._tokenizer = tokenizer
        self._compiled: OrderedDict[Constraint, Any] = OrderedDict()

    def closer(self, constraint: Constraint) -> Closer:
        """Return a closer at the grammar's start. Raises EngineRefused where it names tokens that are no text."""
        matcher = self._compiled.pop(constraint, None) or self._compile(constraint)
        self._compiled[constraint] = matcher
        if len(self._compiled) > _COMPILED:
            self._compiled.popitem(last=False)
        names = DistinctNames() if constraint.wants_distinct_names else None
        return Closer(matcher.deep_copy(), encode=self._tokenizer().tokenize_bytes, names=names)

    def _compile(self, constraint: Constraint) -> Any:
        try:
            matcher = LLMatcher(_BYTES, constraint.lark(), log_level=0, limits=LIMITS)
            said = matcher.get_error() or ""
        except ValueError as error:
            said = str(error)
        if said:
            raise EngineRefused(f"close_at_limit is not served for this {constraint.dialect}: {said}")
        return matcher
