"""What a caller asks for, checked before anything is computed: every error names value, bound and repair.

The arguments come from a jail or from a user's file, so nothing of them is taken for what it should be.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from rlm_local.errors import ConfigError
from rlm_local.grammar import AnswerSchema
from rlm_local.ports import BadCall
from rlm_local.types import JsonValue

MAX_CHOICES = 100
MAX_CHOICE_CHARS = 200
MAX_DESCRIPTION_CHARS = 1_000
MAX_EXAMPLES = 200
MAX_EXAMPLE_CHARS = 2_000
MAX_INSTRUCTION_CHARS = 20_000
MAX_SCHEMA_CHARS = 20_000
MAX_REGEX_CHARS = 1_000
MAX_REGEX_REPEATS = 1_000  # the counts of all {n,m} multiplied
LONG = ("split", "refuse")


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a classification, in the order given."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]  # empty where there is none


def only(args: Mapping[str, JsonValue], *names: str) -> None:
    """Raise BadCall for an argument of another name."""
    if unknown := sorted(set(args) - set(names)):
        raise BadCall(f"there is no argument {unknown[0]!r}; use {', '.join(names)}")


def choices_of(value: JsonValue, what: str = "choices") -> tuple[str, ...]:
    """Return texts of which a reply is one."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadCall(f"{what} must be a list of texts, not {_shown(value)}")
    texts = tuple(str(one) for one in value)
    if not 2 <= len(texts) <= MAX_CHOICES:
        raise BadCall(f"there are {len(texts)} {what}, but there must be 2 to {MAX_CHOICES}")
    folded: dict[str, str] = {}
    for text in texts:
        if not text.strip() or len(text) > MAX_CHOICE_CHARS:
            raise BadCall(f"{what} holds {_shown(text)}, but each must have 1 to {MAX_CHOICE_CHARS} characters")
        if not _is_whole(text):
            raise BadCall(f"{what} holds {_shown(text)}, which has half of a character in it; write it anew")
        if text != text.strip() or "\n" in text:
            raise BadCall(f"{what} holds {_shown(text)}; write it in one line with no blanks around it")
        if (other := folded.get(text.casefold())) is not None:
            raise BadCall(f"{what} holds {other!r} and {text!r}, which are one; name each once")
        folded[text.casefold()] = text
    return texts


def _is_whole(text: str) -> bool:
    """Say whether a text can be written as UTF-8: JSON can spell one half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def labels_of(value: JsonValue) -> Labels:
    """Return labels from a list of names, or from an object name -> description."""
    if isinstance(value, dict):
        names = choices_of(list(value), "labels")
        descriptions = tuple(_text(one, f"the description of {name!r}", MAX_DESCRIPTION_CHARS, empty=True)
                             for name, one in value.items())  # fmt: skip
        return Labels(names, descriptions)
    if not isinstance(value, list):
        raise BadCall(f"labels must be a list of texts, or text: description, not {_shown(value)}")
    names = choices_of(value, "labels")
    return Labels(names, ("",) * len(names))


def examples_of(value: JsonValue, labels: Labels) -> tuple[tuple[str, str], ...]:
    """Return pairs of item and label. `value`: a list of [item, label] or {"item", "label"}; None for none."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadCall(f"examples must be a list of pairs (item, label), not {_shown(value)}")
    if len(value) > MAX_EXAMPLES:
        raise BadCall(f"there are {len(value)} examples, but at most {MAX_EXAMPLES} are used; give the most telling")
    return tuple(_example(at, one, labels) for at, one in enumerate(value, start=1))


def _example(at: int, value: JsonValue, labels: Labels) -> tuple[str, str]:
    if isinstance(value, dict) and set(value) == {"item", "label"}:
        value = [value["item"], value["label"]]
    if not isinstance(value, list) or len(value) != 2:
        raise BadCall(f"example {at} is {_shown(value)}, but must be {{item, label}} or a pair of them")
    item = _text(value[0], f"the item of example {at}", MAX_EXAMPLE_CHARS)
    if value[1] not in labels.names:
        raise BadCall(f"example {at} has the label {_shown(value[1])}, which is none of {', '.join(labels.names)}")
    return item, str(value[1])


def instruction_of(value: JsonValue, what: str = "instruction") -> str:
    return _text(value, what, MAX_INSTRUCTION_CHARS)


def long_of(value: JsonValue) -> bool:
    """Return whether an item that is too long is split; else it is refused."""
    if value is None:
        return True
    if value not in LONG:
        raise BadCall(f"long is {_shown(value)}, but must be 'split' or 'refuse'")
    return value == "split"


def passes_of(value: JsonValue) -> int:
    if value is None:
        return 1
    if isinstance(value, bool) or value not in (1, 2):
        raise BadCall(f"passes is {_shown(value)}, but must be 1 or 2")
    return 1 if value == 1 else 2


def sure_of(value: JsonValue) -> float:
    """Return how likely it must be that an item meets a condition; as likely as not where nothing is said."""
    if value is None:
        return 0.5
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadCall(f"sure is {_shown(value)}, but must be a number from 0 to 1")
    return float(value)


def schema_of(value: JsonValue) -> AnswerSchema:
    """Return a schema that is served, and small enough to be compiled and told to the model."""
    if isinstance(value, str):
        raise BadCall(f"schema is the text {_shown(value)}, but must be an object such as {{'type': 'integer'}}")
    try:
        size = len(json.dumps(value, ensure_ascii=False))
        if size > MAX_SCHEMA_CHARS:
            raise BadCall(
                f"the schema has {size:,} characters, but may have {MAX_SCHEMA_CHARS:,}; ask for less at once"
            )
        return AnswerSchema(value, what="the schema")
    except (ConfigError, RecursionError) as error:
        hint = getattr(error, "hint", "")
        raise BadCall(f"{error}; {hint}" if hint else str(error)) from error


def max_tokens_of(value: JsonValue, most: int) -> int:
    """Return the tokens of a reply; `most` where nothing is said."""
    if value is None:
        return most
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BadCall(f"max_tokens is {_shown(value)}, but must be a whole number from 1 to {most}")
    return value


def regex_of(value: JsonValue) -> str:
    """Return a regular expression that is quick to compile. Whether the engine serves all of it, the engine says."""
    pattern = _text(value, "regex", MAX_REGEX_CHARS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadCall(f"regex {_shown(pattern)} does not compile: {error}") from error
    # One inside of another multiplies. That those beside each other do not is left out: no honest pattern minds.
    counts = [max(map(int, re.findall(r"\d+", one))) for one in re.findall(r"\{(\d+,?\d*|,\d+)\}", pattern)]
    written_out = math.prod(max(1, count) for count in counts)
    if written_out > MAX_REGEX_REPEATS:
        raise BadCall(
            f"regex {_shown(pattern)} counts its repetitions up to {written_out:,} together, but may up to "
            f"{MAX_REGEX_REPEATS:,}; use * or + for a large count"
        )
    return pattern


def _text(value: JsonValue, what: str, most: int, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise BadCall(f"{what} must be a text, not {_shown(value)}")
    if len(value) > most:
        raise BadCall(f"{what} has {len(value):,} characters, but may have {most:,}; shorten it")
    if not empty and not value.strip():
        raise BadCall(f"{what} is empty; say what you want")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
