"""The shortest end of a sentence of a grammar, searched for among bytes within a bounded number of steps.

It works on a matcher whose vocabulary is the 256 bytes, where a step and its mask cost some 20 microseconds. Every byte
that a mask allows leads to some end, so what has to be found is a short one.
"""

from __future__ import annotations

import heapq
from functools import lru_cache
from typing import Any

from rlm_local.grammar.distinct import DistinctNames

MAX_PLACES = 200  # that phrases are tried from, some 0.2 ms each; endings of code take 5 to 30
MAX_STATES = 300  # looked at in a search byte by byte: some 15 ms
MAX_COUNTED = 800  # and in the one for grammars that count; no turn of ours does
# What ends Python, with its cost, which is about its tokens; a phrase that does not fit is refused by the grammar.
_BLOCK = {b"```repl\n0\n```": 4.0}
_AT_LINE = {b"```": 0.2, b"    ": 0.3, b"0": 1.0, b"finally:0": 2.0, b"class x:0": 2.0, **_BLOCK}
_ON_LINE = {b"\n": 0.6, b"0": 1.0, b" 0": 1.0, b":0": 1.6, b"=0": 1.6}
_ON_LINE |= {b",": 1.6, b".x": 1.7}  # a star alone in brackets makes a tuple; a call as a target takes an attribute
_ON_LINE |= {b" else 0": 2.0, b"else 0": 2.0, b"lse 0": 2.0, b"se 0": 2.0, b"e 0": 2.0, b"f 0 else 0": 3.0}
_ON_LINE |= {b" in 0": 2.0, b"in 0": 2.0, b"n 0": 2.0, b" x in 0": 3.0, b"or x in 0": 3.0, b"r x in 0": 3.0}
_ON_LINE |= {
    b"():0": 2.6,
    b" import x": 2.0,
    b" x": 1.1,
    b"s x": 1.6,
    b"->0:0": 3.4,
    b">0:0": 2.6,
    b"00": 1.6,
    b"0000": 1.8,
}
_NAMES = {b"x": 1.05, b"z": 1.15, b"x in 0": 2.0, b"x:0": 2.6, b"x():0": 3.6}  # where no number may stand
_REPEATED = (b"finally:0", b"class x:0")  # lines after these look as those before them do
# What is tried, with its cost: the less, the sooner. One text is about one token.
_CLOSERS = {b")": 0.6, b"]": 0.6, b"}": 0.6}
_QUOTES = {b'"': 1.0, b"'": 1.0, b'"""': 1.2, b"'''": 1.2}
_QUOTES_LAST = {b'"': 2.5, b"'": 2.5}
_ALWAYS = {b"```": 0.2, b"\n": 0.6, b"x": 1.05}
_OUT_OF_TEXT = {b"0": 1.0, b"X": 1.1, b":": 1.0, b" ": 1.0, b"    ": 0.3, b",": 1.5, b"=": 1.5, b"(": 2.0} | _CLOSERS
_FORCED_COST = 0.1  # of each byte that the grammar leaves no choice about
_FEW = 24  # where so few bytes are allowed, as inside of a keyword, each of them is tried
_FEW_LETTERS = 12  # and so few letters begin words of the grammar, not names
_IN_PLACE = frozenset(b"x.%i")  # begins what may go on at once: a name, an attribute, an operator, `in`
_MASKS = 2_000  # kept with what may be tried there; turns have some hundreds, and callers' own grammars any number
_NEVER = frozenset(b"\\#")  # begins what ends nothing, unless nothing else is allowed


def shortest_ending(matcher: Any, names: DistinctNames | None = None) -> bytes | None:
    """Return the bytes that end the sentence from where a matcher over bytes stands; None when none were found.

    names: reads the reply where no list may have a name twice. Three searches, each within its bound: by phrases of
    Python; byte by byte, which takes states that look alike for one; and one that counts how often they looked so, for
    grammars that count. An ending may be missed or be longer than it must, a wrong one is never found.
    """
    if matcher.is_accepting():
        return b""
    found = _by_phrases(matcher, names)
    if found is None:
        found = _by_bytes(matcher, names, counting=False)
    return _by_bytes(matcher, names, counting=True) if found is None else found


class _Place:
    """Where a search stands, and how it got there.

    Its matcher is made when it is first asked for, of the one of the place before: a search passes by most places, and
    a matcher for each of them took tens of megabytes.
    """

    __slots__ = ("_by", "_from", "_own", "before", "run", "text", "words")

    def __init__(
        self, text: bytes, source: Any, by: bytes = b"", *, words: bytes = b"", before: bytes = b"", run: int = 0
    ) -> None:
        self.text = text
        self.words = words  # what the grammar forced, because a place after `and` and one after `else` look alike
        self.before = before  # the mask of the place before
        self.run = run  # how often the mask was the same in a row
        self._from = source
        self._by = by  # the bytes that lead here from there
        self._own: Any = None

    @property
    def matcher(self) -> Any:
        """A matcher that stands here; others are made of it, and it never moves on."""
        if self._own is None:
            self._own, self._from = self._from.deep_copy(), None
            self._own.consume_tokens(list(self._by))
        return self._own

    def step(self, step: bytes, mask: bytes, run: int) -> _Place | None:
        """Return where these bytes lead, with what is forced after them; None where the grammar has none of it."""
        after = self.matcher.deep_copy()
        if after.try_consume_tokens(list(step)) < len(step):
            return None
        forced = after.compute_ff_bytes()
        if forced:
            after.consume_tokens(list(forced))
        if after.is_error():
            return None
        by = step + forced
        return _Place(self.text + by, self.matcher, by, words=self.words + forced, before=mask, run=run)

    def mask(self) -> bytes:
        return bytes(self.matcher.compute_bitmask()[:32])


def _by_bytes(matcher: Any, names: DistinctNames | None, *, counting: bool) -> bytes | None:
    seen = set()
    heap: list[tuple[float, int, _Place]] = [(0.0, 0, _Place(b"", matcher))]  # the number keeps the order of equals
    states = 0
    while heap:
        cost, _, place = heapq.heappop(heap)
        if not is_legal(names, place.text):
            continue
        if place.matcher.is_accepting():
            return place.text
        mask = place.mask()
        run = place.run + 1 if counting and mask == place.before else 0
        depth, column = _depth(place.text), _column(place.text)
        key = (mask, depth, column, place.words, run)
        if key in seen or depth > 1:
            continue
        seen.add(key)
        for step, price in _steps(mask):
            if _indents_oddly(step, column) or (counting and len(step) > 1):
                continue
            after = place.step(step, mask, run)
            if after is None:
                continue
            states += 1
            if states > (MAX_COUNTED if counting else MAX_STATES):
                return None
            forced = len(after.words) - len(place.words)
            heapq.heappush(heap, (cost + (1.0 if counting else price + _FORCED_COST * forced), states, after))
    return None


def _by_phrases(matcher: Any, names: DistinctNames | None) -> bytes | None:
    seen = set()
    start = _Place(b"", matcher)
    heap: list[tuple[float, int, bytes, _Place]] = [(0.0, 0, b"", start.step(b"", b"", 0) or start)]
    tried = 0
    for _ in range(MAX_PLACES):
        if not heap:
            return None
        cost, _, repeated, place = heapq.heappop(heap)
        if not is_legal(names, place.text):
            continue
        if place.matcher.is_accepting():
            return place.text
        mask, column = place.mask(), _column(place.text)
        key = (mask, _depth(place.text), column, repeated, place.text[-1:] == b"z")  # where x is taken, z may do
        if key in seen and not place.text[-1:] > b"\x7f":
            continue
        seen.add(key)
        for phrase, price in _phrases(mask, is_line=column >= 0, is_start=not place.text):
            after = place.step(phrase, mask, 0)
            if after is not None:
                tried += 1
                heapq.heappush(heap, (cost + price, tried, repeated + (phrase if phrase in _REPEATED else b""), after))
    return None


@lru_cache(maxsize=_MASKS)
def _phrases(mask: bytes, *, is_line: bool, is_start: bool) -> tuple[tuple[bytes, float], ...]:
    """Return the phrases that may begin where these bytes are allowed, with their costs."""
    allowed = {byte for byte in range(256) if mask[byte // 8] >> (byte % 8) & 1}
    closers = {phrase: price for phrase, price in _CLOSERS.items() if phrase[0] in allowed}
    if len(closers) > 1:  # in a string, a comment or prose
        quotes = {phrase: price for phrase, price in _QUOTES.items() if phrase[0] in allowed}
        # Without quotes it may be the format of a field in an f-string; and a bracket ends an answer of bare text.
        phrases = (quotes or {b"}": 0.6}) | {b"\n": 0.6, b")": 1.5} | _BLOCK
    elif closers:  # whatever else may stand there ends nothing sooner
        phrases = closers
    elif is_line:
        # White space leads to nothing shorter where something may stand at once; in brackets there is always more.
        left_out = {b"\n", b"    "} if allowed & _IN_PLACE else {b"\n"}
        phrases = {text: price for text, price in (_AT_LINE | _ON_LINE).items() if text not in left_out}
    else:
        phrases = _ON_LINE if ord("0") in allowed else _ON_LINE | _NAMES | _QUOTES
    if is_start:  # which may be the beginning of a line
        phrases = phrases | ({b"```": 0.2} if len(closers) > 1 else _AT_LINE)
    fitting = {phrase: price for phrase, price in phrases.items() if phrase[0] in allowed}
    if not fitting and allowed and min(allowed) > 127:  # inside of a character
        fitting = {bytes([min(allowed)]): 1.0}
    return tuple(fitting.items())


def is_legal(names: DistinctNames | None, text: bytes) -> bool:
    """Say whether a text can follow what `names` has read."""
    return names is None or names.copy().feed(text)


def _indents_oddly(step: bytes, column: int) -> bool:
    """Lines are indented by four, and nothing else is."""
    return step == (b" " if column >= 0 else b"    ")


def _depth(text: bytes) -> int:
    return sum(map(text.count, (b"(", b"[", b"{"))) - sum(map(text.count, _CLOSERS))


def _column(text: bytes) -> int:
    """Return how far the last line is indented; -1 when there is more on it, or no line was begun."""
    line = text.rpartition(b"\n")[2]
    return -1 if line.strip(b" ") or b"\n" not in text else len(line)


@lru_cache(maxsize=_MASKS)
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
