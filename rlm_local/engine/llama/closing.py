"""The shortest way to end a sentence of a grammar, so that a token limit never cuts one.

Near its limit a reply is watched: a token after which the sentence could no longer be ended within the tokens
that are left is not taken, and the shortest ending is written in its place. The ending is searched among bytes,
on a matcher of its own whose vocabulary is the 256 bytes, where a step and its mask cost some 20 microseconds.
Works for every grammar that llguidance takes but those that name special tokens.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from rlm_local.engine.llama.mask import LIMITS, Constraint
from rlm_local.errors import EngineRefused
from rlm_local.grammar.distinct import DistinctNames

_BYTES = LLTokenizer("byte")
_COMPILED = 64  # grammars kept; a run uses a handful

MAX_STATES = 4_000  # looked at in one search: some 0.1 s; endings of code take tens to hundreds
NEAR_TOKENS = 16  # with fewer tokens to spare than this every token is watched
# What is tried, with its cost: the less, the sooner. One text is about one token.
_CLOSERS = {b")": 0.6, b"]": 0.6, b"}": 0.6}
_QUOTES = {b'"': 1.0, b"'": 1.0, b'"""': 1.2, b"'''": 1.2}
_QUOTES_LAST = {b'"': 2.5, b"'": 2.5}
_ALWAYS = {b"```": 0.2, b"\n": 0.6, b"x": 1.05}
_OUT_OF_TEXT = {b"0": 1.0, b"X": 1.1, b":": 1.0, b" ": 1.0, b"    ": 0.3, b",": 1.5, b"=": 1.5, b"(": 2.0} | _CLOSERS
_FORCED_COST = 0.1  # of each byte that the grammar leaves no choice about
_FEW = 24  # where so few bytes are allowed, as inside of a keyword, each of them is tried
_FEW_LETTERS = 12  # and so few letters begin words of the grammar, not names
_NEVER = frozenset(b"\\#")  # begins what ends nothing, unless nothing else is allowed


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
            if _ends(after, known) and _is_legal(names, known) and (size := len(self._encode(known))) <= left:
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


def shortest_ending(matcher: Any, names: DistinctNames | None = None) -> bytes | None:
    """Return the bytes that end the sentence from where a matcher over bytes stands; None when none were found.

    Best-first searches: one that takes states that look alike for one, which is quick, and one that counts
    how often they looked so, for grammars that count. An ending may be missed, a wrong one is never found.
    """
    if matcher.is_accepting():
        return b""
    quick = _search(matcher, names, counting=False)
    return _search(matcher, names, counting=True) if quick is None else quick


def _is_legal(names: DistinctNames | None, text: bytes) -> bool:
    return names is None or names.copy().feed(text)


def _search(matcher: Any, names: DistinctNames | None, *, counting: bool) -> bytes | None:
    seen = set()
    # words: what the grammar forced, because a place after `and` and one after `else` look alike.
    # run: how often the mask was the same in a row. The number keeps the order of equals.
    heap: list[tuple[float, int, bytes, Any, bytes, bytes, int]] = [(0.0, 0, b"", matcher, b"", b"", 0)]
    states = 0
    while heap:
        cost, _, text, state, words, before, run = heapq.heappop(heap)
        if not _is_legal(names, text):
            continue
        if state.is_accepting():
            return text
        mask = bytes(state.compute_bitmask()[:32])
        run = run + 1 if counting and mask == before else 0
        depth, column = _depth(text), _column(text)
        key = (mask, depth, column, words, run)
        if key in seen or depth > 1:
            continue
        seen.add(key)
        for step, price in _steps(mask):
            if step == (b" " if column >= 0 else b"    "):
                continue  # lines are indented by four, and nothing else is
            if counting and len(step) > 1:
                continue
            after = state.deep_copy()
            if after.try_consume_tokens(list(step)) < len(step):
                continue
            forced = after.compute_ff_bytes()
            if forced:
                after.consume_tokens(list(forced))
            if after.is_error():
                continue
            states += 1
            if states > MAX_STATES:
                return None
            price = 1.0 if counting else price + _FORCED_COST * len(forced)
            heapq.heappush(heap, (cost + price, states, text + step + forced, after, words + forced, mask, run))
    return None


def _depth(text: bytes) -> int:
    return sum(map(text.count, (b"(", b"[", b"{"))) - sum(map(text.count, _CLOSERS))


def _column(text: bytes) -> int:
    """Return how far the last line is indented; -1 when there is more on it, or no line was begun."""
    line = text.rpartition(b"\n")[2]
    return -1 if line.strip(b" ") or b"\n" not in text else len(line)


@cache
def _steps(mask: bytes) -> tuple[tuple[bytes, float], ...]:
    """Return the texts that are tried where these bytes are allowed, with their costs."""
    allowed = {byte for byte in range(256) if mask[byte // 8] >> (byte % 8) & 1}
    in_text = sum(step[0] in allowed for step in _CLOSERS) > 1  # of a string or a comment: brackets close nothing
    costs = dict(_ALWAYS) if in_text else _ALWAYS | _OUT_OF_TEXT
    if not in_text and any(step[0] in allowed for step in _CLOSERS):
        del costs[b"\n"]  # free white space, which ends nothing
    # Where a number may stand it is the shorter operand; yet a text of digits too must find its quote.
    costs |= _QUOTES if in_text or ord("0") not in allowed else _QUOTES_LAST
    if in_text and not allowed & set(b"\"'"):  # the format of a field in an f-string
        costs[b"}"] = 0.6
    steps = {step: price for step, price in costs.items() if step[0] in allowed}
    letters = [byte for byte in sorted(allowed) if chr(byte).islower() and byte < 128]
    others = sorted(allowed - _NEVER) if len(allowed) <= _FEW else letters if len(letters) <= _FEW_LETTERS else []
    steps = {bytes([byte]): 1.3 for byte in others} | steps
    if not steps:  # inside of a character, or a class of characters of the grammar's own
        steps = {bytes([byte]): 1.0 for byte in sorted(allowed)[:_FEW]}
    return tuple(steps.items())


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
