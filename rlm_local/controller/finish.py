"""From a run's end to its Answer."""

from __future__ import annotations

import re

from rlm_local.limits import Limits
from rlm_local.types import CellResult, JsonValue, StopReason, Turn

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


def why(stop: StopReason, limits: Limits, *, window_tokens: int) -> str:
    """Return in one sentence why a run that ended so has no confirmed answer; empty for a final."""
    return {
        StopReason.TURN_LIMIT: f"all {limits.max_turns} turns were used; raise --max-turns",
        StopReason.TIME_LIMIT: f"the {limits.wall_s:g} seconds were used; raise --max-seconds",
        StopReason.TOKEN_LIMIT: f"of {limits.max_tokens:,} tokens too few are left for a turn; raise --max-tokens",
        StopReason.WINDOW_LIMIT: f"the run's conversation fills the model's window of {window_tokens:,} tokens",
        StopReason.CANCELLED: "the run was cancelled",
    }.get(stop, "")


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
