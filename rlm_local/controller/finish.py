"""From a run's end to its Answer."""

from __future__ import annotations

import re

from rlm_local.types import CellResult, JsonValue, Turn

BEST_EFFORT_CHARS = 2_000  # of printed text that stands in for an answer when there is none


def is_supported(value: JsonValue, seen: str) -> bool:
    """Say whether an answer could come from what the model has seen.

    A text is supported when one of its telling words (a number, a capitalised or long word) was printed, or
    when it has none. Only strings and numbers are judged: a list or dict may be the model's own arrangement.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return True
    words = telling_words(str(value))
    folded = seen.casefold().replace(",", "")
    return not words or any(word.casefold().replace(",", "") in folded for word in words)


def telling_words(text: str) -> list[str]:
    """Return the words of an answer that can be looked for: those with a digit first, else those of 4+ letters."""
    numbers: list[str] = re.findall(r"\w*\d[\w.,-]*\w|\d", text)
    return numbers or re.findall(r"[^\W\d_]{4,}", text)


def best_so_far(turns: list[Turn], held: JsonValue) -> JsonValue:
    """Return the best value of a run that a limit ended: a final that was held back, else the last thing seen."""
    if held is not None:
        return held
    results: list[CellResult] = [turn.result for turn in turns if turn.result is not None]
    for result in reversed(results):
        answered = [call.answer for call in result.subcalls if call.answer]
        if answered:
            return answered[-1]
        if result.stdout.strip():
            return (result.stdout_tail or result.stdout).strip()[-BEST_EFFORT_CHARS:]
    return None
