"""Does a grammar accept a text, and if not, where does it stop and what could have come there?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rlm_local.errors import ConfigError

MAX_TEXT_BYTES = 40_000  # some 10,000 tokens, ten times a turn; read in well under a second
_FEW_LETTERS = 12  # so few letters begin words of the grammar, not names


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where a text leaves the language. line and column are 1-based, in characters."""

    line: int
    column: int
    found: str  # empty at the end of the text
    expected: tuple[str, ...]  # in words, the shortest list that says it


def refusal(grammar: str, text: bytes) -> Refusal | None:
    """Return where llguidance's Lark `grammar` stops in `text`; None when it accepts the whole.

    Raises ConfigError for a text that is too long, a grammar that does not compile, and without llguidance.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise ConfigError(f"the text has {len(text)} bytes, but no turn is longer than {MAX_TEXT_BYTES}")
    matcher = _compiled(grammar).deep_copy()
    read = matcher.try_consume_tokens(list(text))
    if read == len(text) and matcher.is_accepting():
        return None
    before = text[:read].decode("utf-8", "replace")
    line, _, last = before.rpartition("\n")
    found = text[read : read + 4].decode("utf-8", "replace")[:1]
    return Refusal(line.count("\n") + 1 + ("\n" in before), len(last) + 1, found, expected(matcher))


@lru_cache(maxsize=64)
def _compiled(grammar: str) -> Any:
    """Return a matcher over bytes at the grammar's start; it is copied, never moved."""
    try:
        from llguidance import LLMatcher, LLParserLimits, LLTokenizer
    except ImportError as error:
        raise ConfigError("llguidance is not installed", hint="it comes with the extra: rlm-local[llama]") from error
    limits = LLParserLimits(step_max_items=1_000_000, step_lexer_fuel=2_000_000)
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=limits)
    if said := matcher.get_error():
        raise ConfigError(f"the grammar does not compile: {said.partition(chr(10))[0]}")
    return matcher


def expected(matcher: Any) -> tuple[str, ...]:
    """Return in words what may come next where a matcher over bytes stands."""
    if matcher.is_stopped():
        return ("the end",)
    mask = matcher.compute_bitmask()
    allowed = [byte for byte in range(256) if mask[byte // 8] >> (byte % 8) & 1]
    words = ["the end"] if matcher.is_accepting() else []
    letters = [byte for byte in allowed if chr(byte).isalpha() and byte < 128]
    if len(letters) <= _FEW_LETTERS:
        words += [_word(matcher, byte) for byte in letters]
    else:
        words.append("a letter")
    if any(chr(byte).isdigit() for byte in allowed if byte < 128):
        words.append("a digit")
    named = {ord("\n"): "a new line", ord(" "): "a space", ord("\t"): "a tab"}
    marks = [byte for byte in allowed if byte < 128 and not chr(byte).isalnum()]
    words += [named.get(byte) or (repr(chr(byte)) if byte < 32 or byte == 127 else chr(byte)) for byte in marks]
    if any(byte >= 128 for byte in allowed):
        words.append("a character beyond ASCII")
    return tuple(words)


def _word(matcher: Any, byte: int) -> str:
    """Return the word that begins with this letter, as far as the grammar leaves no choice."""
    after = matcher.deep_copy()
    after.consume_token(byte)
    return chr(byte) + bytes(after.compute_ff_bytes()).decode("utf-8", "replace").strip()
