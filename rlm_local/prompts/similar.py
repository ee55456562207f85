"""Which programs that answered other questions are like a question: by the words they share, the rarer the more."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rlm_local.rows import LOOSE, Row, rows_of, separator

MOST = 2  # programs that a model is shown
_ENOUGH = 1.0  # shared words, each weighed by how few programs' questions have it; a word of one alone is 1
_ENOUGH_OF_TWO = 0.7  # where two words must be shared at least
_AS_GOOD = 0.7  # of the best score: a simpler block that is less like it is taken all the same, where it is shown
_QUOTED = re.compile(r"(?<!\w)['\"‘“][^'\"\n]+['\"’”](?!\w)")
_A_QUOTE = "a quoted text"  # a word of its own
_EACH = re.compile(r"\bhow many of (?:the|these|those|our|my)\b", re.IGNORECASE)
_A_COUNT = "a count of documents"  # too
_YEAR = re.compile(r"\b(?:1[5-9]|20)\d\d\b")
_MONTHS = frozenset(  # `calendar` has them in the locale's language
    re.findall(r"\w+", "January February March April May June July August September October November December")
)
_MONTH = "a month"  # instead of its name
_DATES = ("a date", "a range")  # two words of their own for what has one year, and two
_WORD = re.compile(r"[^\W\d_]+")
_COMMON = frozenset(  # in questions of every kind
    re.findall(
        r"\w+",
        "a all an and answer any are as at be been both by did do does each for form from had has have how i in is it "
        "its more of on only or other same than that the their there these they this to was were what when which who "
        "whose with",
    )
)
_FEW = 3  # lines of prose may by chance have as many commas
_MOST_TOLD = 16  # fields
_SHOWN_CHARS, _LEAST_SHOWN = 30, 10  # characters of a field with its name, and of its value behind a long one
_DAY = re.compile(r"\d{4}-\d\d-\d\d( .*)?")


@dataclass(frozen=True, slots=True)
class Program:
    """What answered a question about other documents."""

    question: str
    code: str


@dataclass(frozen=True, slots=True)
class Field:
    """What a row of the documents has at one place."""

    name: object  # a str; its place where it has none
    value: object  # of one row, as table() gives it


def similar(
    question: str, programs: Sequence[Program], most: int = MOST, *, by_two: bool = False
) -> tuple[Program, ...]:
    """Return the programs whose questions are most like this one, the likest last; none where none is like it.

    by_two: they must share two words at least; one alone ("first") stands in questions of any kind.
    """
    words_of = _words_and_forms if by_two else _words
    known = [words_of(program.question) for program in programs]
    spread = Counter(word for words in known for word in words)
    asked = words_of(question)
    weight = {word: 1 - math.log(count) / math.log(len(programs) + 1) for word, count in spread.items()}
    least, enough = (2, _ENOUGH_OF_TWO) if by_two else (1, _ENOUGH)
    scores = [sum(weight[word] for word in words & asked) if len(words & asked) >= least else 0.0 for words in known]
    best = sorted(range(len(programs)), key=lambda at: (-scores[at], at))[:most]
    if by_two and best:
        enough = max(enough, _AS_GOOD * scores[best[0]])
    return tuple(programs[at] for at in reversed(best) if scores[at] >= enough)


def fields_of(head: str) -> tuple[Field, ...]:
    """Return the fields that table() finds in a text which begins so; none where it is not lines of fields."""
    lines = [("", number, line) for number, line in enumerate(head.splitlines(), start=1) if line.strip()]
    sep = separator([line for _, _, line in lines])
    if not sep or 2 * sum(sep in line for _, _, line in lines) < len(lines):
        return ()
    if sep in LOOSE and len(lines) < _FEW:
        return ()
    rows, _ = rows_of(lines, sep)
    return tuple(Field(name, _last(rows, name)) for name in (rows[0] if rows else ()))


def places(fields: Sequence[Field]) -> str:
    """Return at which place of a row each field stands and what table() makes of it, in words."""
    told = [f"row[{at}] {_told(field)}" for at, field in enumerate(fields[:_MOST_TOLD])]
    if len(fields) > _MOST_TOLD:
        told.append(f"and so on up to row[{len(fields) - 1}]")
    return ", ".join(told)


def _told(field: Field) -> str:
    said = _short(field.name, _SHOWN_CHARS) if isinstance(field.name, str) else ""
    name = f"({said}) " if said else ""
    if not isinstance(field.value, str):
        return f"{name}is a number like {field.value}"
    if _DAY.fullmatch(field.value):
        return f"{name}is a day like '2021-05-03'"
    chars = _SHOWN_CHARS - (len(f"{said}: ") if said else 0)
    return f"{name}is like {_short(field.value, max(chars, _LEAST_SHOWN))!r}"


def _last(rows: Sequence[Row], name: object) -> object:
    """Return what the last row has there that has something; the first ones may be of another kind."""
    return next((row[name] for row in reversed(rows) if row[name] not in (None, "")), "")


def _short(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}..."


def _words(text: str) -> frozenset[str]:
    words = (_MONTH if word in _MONTHS else word.lower() for word in _WORD.findall(text))
    kept = {word.removesuffix("s") for word in words if word not in _COMMON}
    years = len(_YEAR.findall(text))
    return frozenset(kept | set(_DATES[:years]))


def _words_and_forms(text: str) -> frozenset[str]:
    """Return the words, and two more for what a question asks by its form."""
    return _words(text) | {word for word, form in ((_A_QUOTE, _QUOTED), (_A_COUNT, _EACH)) if form.search(text)}
