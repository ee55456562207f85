"""Answers that say that there is nothing to say, and what they can rest on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlm_local.types import CellResult, CellStatus, JsonValue, Turn

DENIAL_CHARS = 120  # a longer text that begins so has something else to say
_NOT_TOLD = re.compile(
    r"\W*(?:(?:it|this|that|the answer) is )?"
    r"not (?:in|found|stated|said|told|given|mentioned|specified|named|known)\b.*",
    re.IGNORECASE | re.DOTALL,
)
# "No." alone answers a question; "no pairs", "there are no such contracts" and "none found" find nothing.
_NONE_FOUND = re.compile(
    r"\W*(?:there (?:is|are|was|were) )?(?:no(?: [\w'-]+){1,4}|none\b(?: [\w'-]+){0,4})\W*", re.IGNORECASE
)
_HOW_MANY = re.compile(r"\bhow many\b", re.IGNORECASE)
_A_NUMBER = re.compile(
    r"\d|\b(?:zero|nil|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|dozens?|hundreds?|thousands?|once|twice|both|all|every|half)\b",
    re.IGNORECASE,
)
_NOTHINGS = frozenset({"0", "set", "Counter"})  # the words of 0, [], set(), Counter() and the like


def is_denial(value: JsonValue) -> bool:
    """Say whether an answer is that the documents do not tell, or hold nothing of what was asked for."""
    if not isinstance(value, str) or len(value) > DENIAL_CHARS:
        return False
    return any(pattern.fullmatch(value) for pattern in (_NOT_TOLD, _NONE_FOUND))


def is_zero(value: JsonValue) -> bool:
    """Say whether an answer is the number 0, which is what code that finds nothing counts."""
    return (value == 0 and not isinstance(value, bool)) if not isinstance(value, str) else value.strip(" .") == "0"


def lacks_number(value: JsonValue, question: str) -> bool:
    """Say whether a question asks how many, and the text that answers it names no number and does not deny any.

    A plain "no" is the usual one: it answers whether there are any, and rests on nothing.
    """
    if not isinstance(value, str) or not _HOW_MANY.search(question):
        return False
    return not _A_NUMBER.search(value) and not is_denial(value)


def has_looked_in_vain(turns: Sequence[Turn]) -> bool:
    """Say whether sub-models have read in vain: one said so, or code found nothing in what they had read.

    That code alone found nothing says little: the words that it looked for may not be those of the documents.
    """
    results = [turn.result for turn in turns if turn.result is not None]
    if any(is_denial(call.answer) for result in results for call in result.subcalls):
        return True
    readers = [at for at, result in enumerate(results) if result.subcalls or result.pages]
    return bool(readers) and any(_printed_nothing(result) for result in results[readers[0] :])


def has_printed(turns: Sequence[Turn]) -> bool:
    """Say whether a cell ran to its end and has printed something last that is more than an empty list or a 0."""
    results = [turn.result for turn in turns if turn.result is not None and turn.result.status is CellStatus.OK]
    return any(lines and not _is_nothing(lines[-1]) for lines in map(_lines, results))


def _printed_nothing(result: CellResult) -> bool:
    return any(map(_is_nothing, _lines(result)))


def _lines(result: CellResult) -> list[str]:
    return [line for line in (result.stdout_tail or result.stdout).splitlines() if line.strip()]


def _is_nothing(line: str) -> bool:
    return _NOTHINGS.issuperset(re.findall(r"\w+", line))
