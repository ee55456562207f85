"""When a passage speaks of an answer: the words that carry meaning, and an answer's value as it may be written."""

from __future__ import annotations

import re
from functools import lru_cache

from rlm_local.types import JsonValue

_WORD = re.compile(r"\d{1,3}(?:,\d{3})+|\w+")
# The last line is what questions are made of here, whatever they ask for.
_COMMON = """
a about after all also an and any are as at be because been before being between both but by can could did do does
doing each else for from had has have having how i if in into is it its itself just may me more most must my no nor
not of off on once only or other our out over own shall she should so some such than that the their them then there
these they this those through to too under until up upon very was we were what when where which while who whom whose
why will with would you your yes true false
answer context document documents file find given question say says state stated text
"""
_TO_TWENTY = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty
"""
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"
_STOP_WORDS = frozenset(_COMMON.split())
_DIGITS_OF = {word: str(number) for number, word in enumerate(_TO_TWENTY.split())} | {
    word: str(10 * number) for number, word in enumerate(_TENS.split(), start=1)
}
_WORD_OF = {int(digits): word for word, digits in _DIGITS_OF.items()}
_VERDICTS = frozenset({"yes", "no", "true", "false", "none", "null", "unknown", "n/a", "not found", "not stated"})
_WHOLE_NUMBER = re.compile(r"-?\d+|-?\d{1,3}(?:,\d{3})+")
_STEM_CHARS = 6  # enough to tell most words apart, too few for most of their endings
_LONGEST_PATTERN_CHARS = 300  # a longer answer is a text of its own: its words are compared, not its letters
_ALIKE = {"'": "['’‘]", "’": "['’‘]", '"': '["“”]', "“": '["“”]', "”": '["“”]', "-": "[-‐‑–]", "–": "[-‐‑–]"}


def content_words(text: str) -> frozenset[str]:
    """Return the words of a text without those that stand in every text: folded, without endings, numbers in digits."""
    return frozenset(_folded(word) for word in _WORD.findall(text.casefold()) if word not in _STOP_WORDS)


def value_pattern(value: JsonValue) -> re.Pattern[str] | None:
    """Return what finds an answer's value in a text, or None for a value that no text would contain.

    Case, white space and the kinds of quotes and dashes do not matter. A value counts only as whole words, a
    number only as a whole number; it may also be grouped by commas, or stand as a word up to twenty and for tens.
    No pattern: None, truth values and their words (yes, unknown, ...), lists and dicts, texts over 300 characters.
    """
    if value is None or isinstance(value, bool | list | dict):
        return None
    written = value if isinstance(value, str) else repr(value)
    text = written.strip(" \t\r\n.,;:\"'“”‘’`")
    if not re.search(r"\w", text) or len(text) > _LONGEST_PATTERN_CHARS or text.casefold() in _VERDICTS:
        return None
    forms = _number_forms(text, value) or [text]
    return re.compile("|".join(_whole(form) for form in forms), re.IGNORECASE)


@lru_cache(maxsize=1 << 16)
def _folded(word: str) -> str:
    """Return what forms of one word share: licences, licensed -> licens; terminate, termination -> termin."""
    word = _DIGITS_OF.get(word, word).replace(",", "")
    if len(word) < 4 or not word.isalpha():
        return word
    for ending in ("ing", "ed", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) > 2 and not word.endswith("ss"):
            word = word.removesuffix(ending)
            break
    word = word.removesuffix("e")
    if word[-1] == "y":
        word = word[:-1] + "i"
    return word[:-1] + "s" if word.endswith("nc") else word[:_STEM_CHARS]


def _number_forms(text: str, value: JsonValue) -> list[str]:
    """Return how a whole number may be written, or [] for anything else."""
    if isinstance(value, float) and value.is_integer():
        text = f"{value:.0f}"
    if not _WHOLE_NUMBER.fullmatch(text):
        return []
    digits = text.replace(",", "")
    forms = [digits]
    if len(digits) > 3:
        forms.append(re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", digits))
    if len(digits) <= 2 and (word := _WORD_OF.get(int(digits))):
        forms.append(word)
    return forms


def _whole(form: str) -> str:
    """Return a pattern for `form` that does not match inside a longer word or number."""
    body = r"\s+".join("".join(_ALIKE.get(char, re.escape(char)) for char in part) for part in form.split())
    # Scripts without upper and lower case often write no spaces, so their words have no edges to look for.
    before = r"(?<!\w)(?<!\d[.,])" if _has_edges(form[0]) else ""
    after = r"(?!\w)(?![.,]\d)" if _has_edges(form[-1]) else ""
    return before + body + after


def _has_edges(char: str) -> bool:
    return char.isdigit() or char.lower() != char.upper()
