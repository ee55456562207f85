"""The scorers: an answer as it came, the gold, and points from 0 to 1.

An answer is what a run ends with: a text, or a value of Python where code made it. Both count alike.
"""

from __future__ import annotations

import ast
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from enum import StrEnum

from rlm_local.types import JsonValue

ABSENT = "not in the documents"

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?")
_PAIR = re.compile(r"[(\[]\s*(\d+)\s*,\s*(\d+)\s*[)\]]")
_DATES = ("%b %d, %Y", "%B %d, %Y", "%Y-%m-%d", "%m/%d/%Y", "%d %B %Y", "%d %b %Y")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_COMPARISONS = ("more common", "less common", "same frequency")
_SHORT = 20  # characters; OOLONG's rule treats longer answers as sentences


class AnswerType(StrEnum):
    """OOLONG's types of answers."""

    LABEL = "LABEL"
    COMPARISON = "COMPARISON"
    NUMERIC = "NUMERIC"
    USER = "USER"
    DATE = "DATE"
    MONTH_YEAR = "MONTH_YEAR"


def as_text(value: JsonValue) -> str:
    """Return an answer as text: strings bare, each element of a list on a line of its own."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(as_text(one) for one in value)
    return str(value)


def string_match_all(answer: JsonValue, gold: JsonValue) -> float:
    """RULER's rule: the share of gold strings that stand anywhere in the answer; upper and lower case are alike.

    Its leniency is kept: "12345678" matches gold "1234567", and so does an answer that lists every number it saw.
    "1,234,567" does not match.
    """
    text = as_text(answer).lower()
    wanted = strings(gold)
    return sum(one.lower() in text for one in wanted) / len(wanted)


def oolong(answer: JsonValue, gold: JsonValue, *, kind: AnswerType) -> float:
    """OOLONG's official rule (src/eval/eval_helpers.py), with one addition.

    The candidate is the text after the last ":", without *, [ and ]; without ":" the whole text when it is shorter
    than 20 characters, else its last word. It scores 1 when it is the gold, or names the same comparison; a whole
    number 0.75 to the power of its distance; an equal date 1; all else 0. The addition: an answer that is the gold
    and nothing else scores 1 also when it is long and has no ":", as a value that code made may be.
    """
    text, wanted = as_text(answer).strip(), as_text(gold)
    candidate = _candidate(text)
    if wanted in (candidate, text):
        return 1.0
    if candidate in _COMPARISONS:
        return float(candidate in wanted)
    if kind is AnswerType.NUMERIC:
        return decay(candidate, gold) if re.fullmatch(r"[-+]?\d+", candidate) else 0.0
    if kind is AnswerType.DATE:
        read = as_date(candidate)
        return float(read is not None and read == as_date(wanted))
    return 0.0


def _candidate(text: str) -> str:
    if ":" in text:
        said = text.rpartition(":")[2]
    elif len(text) < _SHORT:
        said = text
    else:
        said = (text.split() or [""])[-1]
    said = re.sub(r"[*\[\]]", "", said).strip()
    if len(said) >= _SHORT or ":" in text:
        for phrase in _COMPARISONS:
            if phrase in said:
                return phrase
    return said


def count(answer: JsonValue, gold: JsonValue) -> float:
    """0.75 to the power of the distance of the answer's number from the gold; 0 without a number."""
    return decay(number(answer), gold)


def decay(said: JsonValue, gold: JsonValue) -> float:
    return 0.0 if said is None else float(0.75 ** abs(float(str(gold)) - float(str(said))))


def close(answer: JsonValue, gold: JsonValue) -> float:
    """1 when the answer's number is within one percent of the gold, else 0."""
    said, wanted = number(answer), float(str(gold))
    return float(said is not None and abs(said - wanted) <= abs(wanted) / 100)


def number(answer: JsonValue) -> float | None:
    """Return the number that an answer says: the first after its last ":", else its last one. None without any."""
    text = as_text(answer)
    for part, place in ((text.rpartition(":")[2] if ":" in text else "", 0), (text, -1)):
        found = _NUMBER.findall(part)
        if found:
            return float(found[place].replace(",", ""))
    return None


def exact(answer: JsonValue, gold: JsonValue) -> float:
    """1 when answer and gold are equal but for case, articles, punctuation and white space (SQuAD's exact match)."""
    return float(any(_plain(as_text(answer)) == _plain(one) for one in strings(gold)))


def literal(answer: JsonValue, gold: JsonValue) -> float:
    """1 when the answer is the same literal of Python as the gold, which is its text: 'a' and "a", 1_000 and 1000."""
    said, wanted = as_text(answer).strip().strip("`").strip(), as_text(gold)
    try:
        value = ast.literal_eval(wanted)
    except (ValueError, SyntaxError):
        return float(said == wanted)
    try:
        read = ast.literal_eval(said)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        read = said  # a string without its quotes
    return float(type(read) is type(value) and read == value)


def token_f1(answer: JsonValue, gold: JsonValue) -> float:
    """SQuAD's F1 over words; yes and no have to be said alone."""
    said, wanted = _plain(as_text(answer)).split(), _plain(as_text(gold)).split()
    if said != wanted and {"yes", "no", "noanswer"} & {" ".join(said), " ".join(wanted)}:
        return 0.0
    return _f1(sum((Counter(said) & Counter(wanted)).values()), len(said), len(wanted))


def choice(answer: JsonValue, gold: JsonValue) -> float:
    """1 when the answer chooses the gold's letter, A to D: alone, in brackets, or after "answer is" or ":"."""
    text = as_text(answer).strip().strip("*").strip()
    found = re.match(r"^\(?([A-D])\)?(?:[.:)\s]|$)", text) or re.search(r"(?:answer is|:)\s*\(?([A-D])\b", text)
    return float(found is not None and found.group(1) == gold)


def word(answer: JsonValue, gold: JsonValue) -> float:
    """1 when the first word of the answer, or of what stands after its last ":", is the gold's: yes, no, maybe."""
    text = as_text(answer)
    said = [_plain(part).split()[:1] for part in (text, text.rpartition(":")[2])]
    return float([_plain(as_text(gold))] in said)


def day(answer: JsonValue, gold: JsonValue) -> float:
    """1 when the answer, or what stands after its last ":", is the gold's date in one of the usual forms."""
    text, wanted = as_text(answer), as_date(as_text(gold))
    return float(wanted in (as_date(text), as_date(text.rpartition(":")[2])))


def as_date(text: str) -> date | None:
    plain = text.strip().strip(".'\"*").strip()
    for form in _DATES:
        try:
            return datetime.strptime(plain, form).date()  # noqa: DTZ007 - a day has no zone
        except ValueError:
            continue
    return None


def set_f1(answer: JsonValue, gold: JsonValue) -> float:
    """F1 over the elements of two lists; order, doubles and case do not matter. Nothing for nothing scores 1."""
    said, wanted = ({_plain(one) for one in many} - {"", "none"} for many in (elements(answer), strings(gold)))
    return _f1(len(said & wanted), len(said), len(wanted)) if said or wanted else 1.0


def pairs_f1(answer: JsonValue, gold: JsonValue) -> float:
    """OOLONG-Pairs' F1 over unordered pairs, (1, 2) or [1, 2] wherever they stand. Nothing for nothing scores 1."""
    said, wanted = pairs(answer), pairs(gold)
    return _f1(len(said & wanted), len(said), len(wanted)) if said or wanted else 1.0


def pairs(value: JsonValue) -> set[tuple[int, int]]:
    text = value if isinstance(value, str) else repr(value)
    found = ((int(one), int(other)) for one, other in _PAIR.findall(text))
    return {(min(pair), max(pair)) for pair in found}


def passages_f1(answer: JsonValue, gold: JsonValue) -> float:
    """CUAD's rule: a quoted passage is found when it shares at least half of all its and the gold's words (Jaccard).

    F1 of precision over the answer's passages and recall over the gold's. Nothing for nothing scores 1.
    """
    said = [set(_plain(one).split()) for one in elements(answer, commas=False) if _plain(one)]
    wanted = [set(_plain(one).split()) for one in strings(gold)]
    if not said and not wanted:
        return 1.0
    if not said or not wanted:
        return 0.0
    precision = sum(any(_jaccard(one, other) >= 0.5 for other in wanted) for one in said) / len(said)
    recall = sum(any(_jaccard(one, other) >= 0.5 for other in said) for one in wanted) / len(wanted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def absent(answer: JsonValue, gold: JsonValue) -> float:
    """Of a question whose answer may not be there: 1 when the answer says so and gold too, or it holds the gold."""
    text = " ".join(as_text(answer).lower().split())
    says_absent = text.strip(" .'\"") in ("none", ABSENT) or ABSENT in text
    if gold == ABSENT:
        return float(says_absent)
    return 0.0 if says_absent else string_match_all(answer, gold)


def strings(value: JsonValue) -> list[str]:
    """Return a gold that may be one string or a list of them, as a list."""
    return [as_text(one) for one in value] if isinstance(value, list) else [as_text(value)]


def elements(answer: JsonValue, *, commas: bool = True) -> list[str]:
    """Return the elements of an answer: of a list, or of a text that is one, or its lines, parted by commas too."""
    if isinstance(answer, list):
        return [as_text(one) for one in answer]
    text = as_text(answer).strip()
    if text.startswith("["):
        try:
            read = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            read = None
        if isinstance(read, list):
            return [as_text(one) for one in read]
    parts = re.split(r"[\n,;]", text) if commas else text.split("\n")
    return [stripped for part in parts if (stripped := _BULLET.sub("", part).strip(" '\"`"))]


def _plain(text: str) -> str:
    """SQuAD's normal form."""
    bare = "".join(each for each in text.lower() if each not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0


def _f1(shared: int, said: int, wanted: int) -> float:
    return 2 * shared / (said + wanted) if said + wanted else 1.0


def mean(values: Iterable[float] | Sequence[float]) -> float:
    """Return the mean; 0 of nothing."""
    known = list(values)
    return sum(known) / len(known) if known else 0.0
