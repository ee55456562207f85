"""From a run's end to its Answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlm_local.controller.denial import is_denial
from rlm_local.limits import Limits
from rlm_local.types import CellResult, JsonValue, StopReason, Turn

_HEADLINE = re.compile(r"([\d,]+ match(es)?|no (exact )?match) for ")
_SENTENCE = re.compile(r"[.?!]\s+")
_CUT = re.compile(r"[,;:]|\bor\b", re.IGNORECASE)  # between what is to choose from
_ARTICLES = ("a", "an", "the")
_NUMBER = re.compile(r"(?<!\w)\w*\d[\w.,-]*\w|\d")
_LABEL = re.compile(r"\A\W*answer\s*:\s*", re.IGNORECASE)
ECHO_WORDS, _ECHO_SHARE = 8, 0.9  # fewer words than that may be anybody's
BEST_EFFORT_CHARS = 2_000  # of printed text that stands in for an answer when there is none


def is_supported(value: JsonValue, seen: str) -> bool:
    """Say whether an answer could come from what was printed to the model.

    A text is supported when one of its telling words (those with a digit, else those of four letters and more)
    was printed, or when it has none. Only strings and numbers are judged: a list or dict may be the model's own
    arrangement.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return True
    words = telling_words(str(value))
    folded = seen.casefold().replace(",", "")
    return not words or any(_stands(word.casefold().replace(",", ""), folded) for word in words)


def _stands(word: str, seen: str) -> bool:
    """Say whether a word was seen; a number whole, and not as a part of a longer one."""
    if not word[:1].isdigit() and not word[-1:].isdigit():
        return word in seen
    return re.search(rf"(?<!\d)(?<!\d\.){re.escape(word)}(?!\d|\.\d)", seen) is not None


def is_offered(value: JsonValue, question: str) -> bool:
    """Say whether an answer is one of those that the question itself gives to choose from.

    Nothing needs to print its words: that 8 is "more common than" 3 is not said by any document. They must stand
    beside an "or" of the question, or beside a comma of a sentence that has one. Names and numbers are facts, which
    something must have printed, and so must what a question for a number is answered with; what is all in capitals
    stands for an answer there, and is none.
    """
    if not isinstance(value, str):
        return False
    given = _LABEL.sub("", value)
    words = _choice(given)
    if not words or given.isupper() or any(character.isdigit() for character in given):
        return False
    return any(_is_choice(words, sentence) for sentence in _SENTENCE.split(question))


def passed_over(value: JsonValue, printed: Sequence[str], question: str) -> str:
    """Return the last line printed where the question gives it to choose from and an answer is without it, or "".

    The question "Is A more common than, or less common than B?" was answered with "A", for both stand in its text.
    """
    last = next((text for text in reversed(printed) if text.strip()), "").rstrip().rpartition("\n")[2].strip()
    if not isinstance(value, str) or not is_offered(last, question) or _choice(_LABEL.sub("", last)) in _choice(value):
        return ""
    return last


def _is_choice(words: str, sentence: str) -> bool:
    """Say whether a sentence gives these words, as _choice returns them, to choose from."""
    folded = sentence.casefold()
    if not re.search(r"\bor\b", folded) or re.search(r"\bhow (many|much)\b", folded):
        return False
    pieces = _CUT.split(sentence)
    before = any(_choice(piece).endswith(words) for piece in pieces[:-1])
    behind = any(_choice(piece).startswith(words) for piece in pieces[1:])
    return (before or behind) and _is_lower(words, sentence)


def _choice(text: str) -> str:
    """Return the words of a text, a space around each, without an article that it begins with."""
    words = _words(text)
    words = words[1:] if words[:1] and words[0] in _ARTICLES else words
    return f" {' '.join(words)} " if words else ""


def _is_lower(words: str, sentence: str) -> bool:
    """Say whether no word of these is written with a capital in a sentence: a name is."""
    capital = {word.casefold() for word in re.findall(r"\w+", sentence)[1:] if word[0].isupper()}
    return capital.isdisjoint(words.split())


def is_empty(value: JsonValue) -> bool:
    """Say whether a final holds no answer. An empty list may well be one."""
    return value is None or (isinstance(value, str) and not value.strip())


def is_echo(value: JsonValue, told: str) -> bool:
    """Say whether an answer only repeats what the model was told about its turns, word by word or nearly so.

    What small models give when they may do nothing but answer and have nothing to say.
    """
    if is_denial(value):
        return False
    words, known = _words(value), frozenset(_words(told))
    return len(words) >= ECHO_WORDS and sum(word in known for word in words) >= _ECHO_SHARE * len(words)


def is_quoted(value: JsonValue, told: str) -> bool:
    """Say whether an answer stands word by word in what was told."""
    words = _words(value)
    return len(words) >= ECHO_WORDS and f" {' '.join(words)} " in f" {' '.join(_words(told))} "


def _words(value: JsonValue) -> list[str]:
    return re.findall(r"\w+", value.casefold()) if isinstance(value, str) else []


def printed_by(result: CellResult, question: str) -> str:
    """Return what a cell printed, less the words that the model itself put there.

    The question and the headlines of search() echo the model: they say that it looked, not what it found.
    """
    text = "\n".join((result.stdout, result.stdout_tail)).replace(question, "")
    return "\n".join(line for line in text.split("\n") if not _HEADLINE.match(line))


def telling_words(text: str) -> list[str]:
    """Return the words of an answer that can be looked for: those with a digit first, else those of 4+ letters."""
    return _NUMBER.findall(text) or re.findall(r"[^\W\d_]{4,}", text)


def why(stop: StopReason, limits: Limits, *, window_tokens: int) -> str:
    """Return in one sentence why a run that ended so has no confirmed answer; empty for a final."""
    return {
        StopReason.TURN_LIMIT: f"all {limits.max_turns} turns were used; raise --max-turns",
        StopReason.TIME_LIMIT: f"of {limits.wall_s:g} seconds too few are left for another turn; raise --max-seconds",
        StopReason.TOKEN_LIMIT: f"of {limits.max_tokens:,} tokens too few are left for a turn; raise --max-tokens",
        StopReason.COST_LIMIT: f"of {_money(limits)} too little is left for another turn; raise --max-cost",
        StopReason.WINDOW_LIMIT: f"the run's conversation fills the model's window of {window_tokens:,} tokens",
        StopReason.CANCELLED: "the run was cancelled",
    }.get(stop, "")


def _money(limits: Limits) -> str:
    return limits.price.told(limits.max_cost) if limits.price and limits.max_cost else "no money"


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
            printed = (result.stdout_tail or result.stdout).strip()
            return printed if len(printed) <= BEST_EFFORT_CHARS else f"... {printed[-BEST_EFFORT_CHARS:]}"
    return None
