"""Which programs that answered other questions are like a question: by the words they share, the rarer the more."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MOST = 2  # programs that a model is shown
_ENOUGH = 1.0  # shared words, each weighed by how few programs' questions have it; a word of one alone is 1
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
# What stands between fields, as the REPL's table() reads them, and how many lines must have as many of it.
_SEPARATORS = {" || ": 2, "\t": 2, " | ": 2, "|": 2, ";": 3, ",": 3}
_SHOWN_CHARS = 30  # of a field
_NAMED = re.compile(r"([^\W\d_][\w ./-]{0,30}?)\s*[:=]\s+")
_WHOLE = re.compile(r"0|[1-9]\d{0,17}")
_DAY = re.compile(r"\d{4}-\d\d?-\d\d?|[A-Z][a-z]{2,8}\.? \d\d?,? \d{4}|\d\d?\.? [A-Z][a-z]{2,8},? \d{4}")


@dataclass(frozen=True, slots=True)
class Program:
    """What answered a question about other documents."""

    question: str
    code: str


def similar(question: str, programs: Sequence[Program], most: int = MOST) -> tuple[Program, ...]:
    """Return the programs whose questions are most like this one, the likest last; none where none is like it."""
    known = [_words(program.question) for program in programs]
    spread = Counter(word for words in known for word in words)
    asked = _words(question)
    weight = {word: 1 - math.log(count) / math.log(len(programs) + 1) for word, count in spread.items()}
    scores = [sum(weight[word] for word in words & asked) for words in known]
    best = sorted(range(len(programs)), key=lambda at: (-scores[at], at))[:most]
    return tuple(programs[at] for at in reversed(best) if scores[at] >= _ENOUGH)


def fields_of(head: str) -> tuple[str, ...]:
    """Return the fields of one line of a text that begins so; none where it is not lines of fields.

    It is, when half of its lines, and a few, have as many separators. The line is the last such one, for the first
    ones may name the fields.
    """
    lines = [line for line in head.splitlines() if line.strip()]
    for separator, few in _SEPARATORS.items():
        spread = Counter(count for line in lines if (count := line.count(separator)))
        width, alike = spread.most_common(1)[0] if spread else (0, 0)
        if alike >= few and 2 * alike >= len(lines):
            line = [line for line in lines if line.count(separator) == width][-1]
            if line.startswith("|") and line.endswith("|"):
                line = line[1:-1]
            return tuple(_short(field.strip()) for field in line.split(separator))
    return ()


def places(fields: Sequence[str]) -> str:
    """Return at which place of a row each field stands and what table() makes of it, in words."""
    return ", ".join(f"row[{at}] {_told(field)}" for at, field in enumerate(fields))


def _told(field: str) -> str:
    match = _NAMED.match(field)
    name, value = (f"({match[1]}) ", field[match.end() :]) if match else ("", field)
    if _WHOLE.fullmatch(value):
        return f"{name}is a number like {value}"
    return f"{name}is a day like '2021-05-03'" if _DAY.match(value) else f"{name}is like {value!r}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _words(text: str) -> frozenset[str]:
    words = (_MONTH if word in _MONTHS else word.lower() for word in _WORD.findall(text))
    kept = {word.removesuffix("s") for word in words if word not in _COMMON}
    years = len(_YEAR.findall(text))
    return frozenset(kept | set(_DATES[:years]))
