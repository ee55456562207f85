"""The one condition of the turn language that its rules cannot say: no name twice in one list.

`def f(a, a)`, `lambda x, x: 0` and `f(a=1, a=2)` do not compile, and no context-free grammar can refuse just them.
This reads the text of a turn beside the grammar, byte by byte, and says no at the first byte after a name that its
list already has. It relies on the rules, that is, on a text that is the beginning of a sentence of
grammars/python.grammar: there a bracket directly behind a name is a call's, a keyword has white space around it, a
field lacks the quote of its f-string, and behind a keyword argument a name begins the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

CONDITION = "no name twice among the parameters of a def or lambda, or among the keywords of a call"

_NAME_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_BLANKS = frozenset(b" \n\\")
_QUOTES = frozenset(b"\"'")


class Slot(Enum):
    """Where in an entry of a list the text stands."""

    START = auto()  # a name may begin
    NAME = auto()  # in it
    NAMED = auto()  # behind it; `=` makes a keyword of it
    EQUALS = auto()  # behind the `=`, which may still become `==`
    VALUE = auto()  # past all that, until the next comma


class _Kind(Enum):
    PROSE = auto()  # before the block, and a final
    CODE = auto()  # of the block, in no bracket
    BRACKET = auto()  # without names to remember
    CALL = auto()
    PARAMETERS = auto()
    LAMBDA = auto()  # its parameters, until the colon
    COMMENT = auto()
    OPENING = auto()  # one quote or two: what string begins is not known yet
    STRING = auto()
    FIELD = auto()  # of an f-string
    SPEC = auto()  # of a field, behind its colon


@dataclass(frozen=True, slots=True)
class _Open:
    """What is open, and what that stands in."""

    kind: _Kind
    up: _Open | None = None
    names: frozenset[bytes] = frozenset()  # of this list, so far
    quote: int = 0  # the byte that a string begins with
    quotes: int = 0  # of them: read so far while it opens, then how many close it
    formatted: bool = False


_LISTS = (_Kind.CALL, _Kind.PARAMETERS, _Kind.LAMBDA)
_CODE = (_Kind.CODE, _Kind.BRACKET, _Kind.FIELD, *_LISTS)


class DistinctNames:
    """Reads one turn. A copy costs little, so that a token can be tried."""

    __slots__ = ("_brace", "_defining", "_ended", "_escaped", "_name", "_open", "_run", "_word", "slot")

    def __init__(self) -> None:
        self.slot = Slot.VALUE
        self._open = _Open(_Kind.PROSE, _Open(_Kind.CODE))
        self._word = b""  # what was read of a name, keyword or number; empty outside of them
        self._name = b""  # the one that may become a keyword argument
        self._ended = False  # the byte before closed a bracket or a string, which may be called
        self._defining = False  # between `def` and its bracket
        self._escaped = False  # in a string, behind a backslash
        self._brace = False  # in an f-string, behind a brace that may open a field
        self._run = 0  # backticks, or quotes of this string, just read

    def copy(self) -> DistinctNames:
        twin = DistinctNames.__new__(DistinctNames)
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def feed(self, text: bytes) -> bool:
        """Read on. False as soon as a list has a name twice; nothing can be read after that."""
        return all(self._byte(byte) for byte in text)

    @property
    def begun(self) -> bytes:
        """What was read of a list's name; empty where none has begun."""
        return self._word if self.slot is Slot.NAME else b""

    @property
    def taken(self) -> frozenset[bytes]:
        """The names that may not end what begins here; empty where a list has none, or none can stand."""
        can_stand = self.slot in (Slot.START, Slot.NAME) and self._open.kind in _LISTS
        return self._open.names if can_stand else frozenset()

    def _byte(self, byte: int) -> bool:
        match self._open.kind:
            case _Kind.PROSE:
                self._prose(byte)
            case _Kind.COMMENT:
                if byte == ord("\n"):
                    self._leave()
            case _Kind.OPENING:
                return self._opening(byte)
            case _Kind.STRING:
                return self._string(byte)
            case _Kind.SPEC:
                self._spec(byte)
            case _:
                return self._code(byte)
        return True

    def _prose(self, byte: int) -> None:
        """Prose has no backtick: the first one is the fence's, and its line the last before the code."""
        self._run += byte == ord("`")
        if self._run and byte == ord("\n"):
            self._run = 0
            self._leave()

    def _code(self, byte: int) -> bool:
        if self.slot is Slot.EQUALS and byte != ord("="):
            self._remember(self._name)
            self.slot = Slot.VALUE
        if byte in _NAME_BYTES:
            if not self._word:
                self.slot = Slot.NAME if self.slot is Slot.START else Slot.VALUE
            self._word += bytes((byte,))
            self._ended = False
            return True
        word, self._word = self._word, b""
        if byte in _QUOTES:
            self.slot = Slot.VALUE
            self._enter(_Open(_Kind.OPENING, self._open, quote=byte, quotes=1, formatted=b"f" in word.lower()))
            return True
        if word and not self._end_word(word):
            return False
        callee = bool(word) or self._ended
        self._ended = False
        if byte == ord("#"):
            self._enter(_Open(_Kind.COMMENT, self._open))
        elif byte not in _BLANKS:
            self._sign(byte, callee)
        return True

    def _end_word(self, word: bytes) -> bool:
        """False when it is a name that its list already has."""
        if word == b"lambda":
            self._enter(_Open(_Kind.LAMBDA, self._open))
            self.slot = Slot.START
        elif word == b"def":
            self._defining = True
        elif self.slot is Slot.NAME:
            if word in self._open.names:
                return False
            if self._open.kind is _Kind.CALL:
                self._name, self.slot = word, Slot.NAMED
            else:
                self._remember(word)
                self.slot = Slot.VALUE
        return True

    def _sign(self, byte: int, callee: bool) -> None:
        kind = self._open.kind
        sign = chr(byte)
        if sign in "([{":
            self._enter(_Open(self._bracket(sign, callee), self._open))
            self.slot = Slot.START if self._open.kind in _LISTS else Slot.VALUE
        elif sign in ")]}":
            self._leave()
            self._ended = kind is not _Kind.FIELD
            self.slot = Slot.VALUE
        elif sign == "," and kind in _LISTS:
            self.slot = Slot.START
        elif sign == ":" and kind is _Kind.LAMBDA:
            self._leave()
            self.slot = Slot.VALUE
        elif sign == ":" and kind is _Kind.FIELD:
            self._open = replace(self._open, kind=_Kind.SPEC)
        elif sign == "=" and self.slot is Slot.NAMED:
            self.slot = Slot.EQUALS
        elif not (sign in "*/" and self.slot is Slot.START and kind is not _Kind.CALL):
            self.slot = Slot.VALUE

    def _bracket(self, sign: str, callee: bool) -> _Kind:
        if sign != "(" or not callee:
            return _Kind.BRACKET
        defining, self._defining = self._defining, False
        return _Kind.PARAMETERS if defining else _Kind.CALL

    def _opening(self, byte: int) -> bool:
        opening = self._open
        if byte == opening.quote:
            third = opening.quotes == 2
            self._open = replace(opening, kind=_Kind.STRING, quotes=3) if third else replace(opening, quotes=2)
            return True
        if opening.quotes == 2:  # it was empty
            self._leave()
            self._ended = True
            return self._code(byte)
        self._open = replace(opening, kind=_Kind.STRING)
        return self._string(byte)

    def _string(self, byte: int) -> bool:
        if self._escaped:
            self._escaped = False
            return True
        brace, self._brace = self._brace, False
        if self._open.formatted and byte == ord("{"):
            self._brace, self._run = not brace, 0
        elif brace:
            self._enter(_Open(_Kind.FIELD, self._open))
            return self._code(byte)
        elif byte == self._open.quote:
            self._run += 1
            if self._run == self._open.quotes:
                self._leave()
                self._run, self._ended = 0, True
        else:
            self._run, self._escaped = 0, byte == ord("\\")
        return True

    def _spec(self, byte: int) -> None:
        if byte == ord("{"):
            self._enter(_Open(_Kind.BRACKET, self._open))
        elif byte == ord("}"):
            self._leave()

    def _remember(self, name: bytes) -> None:
        self._open = replace(self._open, names=self._open.names | {name})

    def _enter(self, opened: _Open) -> None:
        self._open = opened

    def _leave(self) -> None:
        assert self._open.up is not None, "the rules close only what is open"
        self._open = self._open.up
