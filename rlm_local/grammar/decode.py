"""From the text of a turn to what it asks for."""

from __future__ import annotations

import ast
import re

from rlm_local.types import Action, Cell, Final, FinalVar, JsonValue, Malformed, ReplyStop

# Anchored by hand rather than by `$`: a fence inside a string of the code must not end the block early, and
# the grammar lets no fence stand there.
_BLOCK = re.compile(r"^```(?:repl|python|py)?[ \t]*\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
_FINAL_VAR = re.compile(r"^FINAL_VAR\(\s*[\"']?(?P<name>[A-Za-z_]\w*)[\"']?\s*\)", re.MULTILINE)
_FINAL = re.compile(r"^FINAL\((?P<literal>.*)\)\s*\Z", re.MULTILINE | re.DOTALL)

MAX_LITERAL_CHARS = 100_000  # of a FINAL(...); a longer answer belongs into a variable


def decode_turn(text: str, stop: ReplyStop) -> Action:
    """Return what a turn asks for: a Cell, a Final, a FinalVar, or Malformed with a sentence for the model.

    The first block wins over a final that stands after it: code whose output was not seen supports nothing.
    Text from an engine without a grammar is read with the same rules, so ```python fences count as blocks.
    """
    if block := _BLOCK.search(text):
        code = block["code"].rstrip()
        return Cell(code) if code else Malformed("The block was empty. Write Python between the fences.")
    if stop is ReplyStop.LENGTH:
        return Malformed("Your reply was cut because it was too long. Write a shorter one.")
    if name := _FINAL_VAR.search(text):
        return FinalVar(name["name"])
    if final := _FINAL.search(text):
        return _literal(final["literal"])
    return Malformed("Reply with one ```repl block, FINAL(...) or FINAL_VAR(...).")


def _literal(source: str) -> Final | Malformed:
    if len(source) > MAX_LITERAL_CHARS:
        return Malformed(
            f"FINAL(...) holds {len(source)} characters, but at most {MAX_LITERAL_CHARS} may stand there. "
            "Put the answer into a variable and reply FINAL_VAR(name)."
        )
    try:
        value = ast.literal_eval(source.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return Malformed('FINAL(...) takes a Python literal, such as FINAL("text") or FINAL(42).')
    return Final(_as_json(value))


def _as_json(value: object) -> JsonValue:
    """Return a literal's value in JSON's types; what JSON lacks (bytes, sets, complex) becomes its text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    return str(value)
