"""Prompt profiles: one text file each, in sections.

A profile is a Markdown file in text/. A line `# name` opens a section; the sections are:

    system       rules of the game; the same bytes for every run, so that its KV cache is too
    user / assistant  worked turns in the order they stand: a user message, then the assistant's reply
    question     the opening of a real run; $question, $documents, $characters, $names, $subcall_tokens,
                 $subcall_characters, $turns are filled in
    observation  what follows a turn; $output, $note
    open         the note of an ordinary turn; $turns_left, $subcalls_left, $tokens_left, $seconds_left
    low          added to the note where less than a quarter of something is left; $what, $left
    last         the note of a turn that may only answer
    held         the note when a cell gave an answer before anything was seen; $value
    unsupported  the note when no word of an answer was ever printed; $value
    empty        the note when an answer was empty
    repeated     the note when the same code was run before
    circle       added to the note when the run goes round in a circle, once; $why
    typed        follows the question of a run whose answer has a type; $schema
    mistyped     the note when an answer was not of that type; $why
    closed       the note when a turn's tokens were spent and its end was written for it; $closed
    subcall      the system message of every llm_query
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlm_local.errors import ConfigError
from rlm_local.types import Message, Role

_TEXT = Path(__file__).parent / "text"
_ONCE = (
    "system",
    "question",
    "observation",
    "open",
    "low",
    "last",
    "held",
    "unsupported",
    "empty",
    "repeated",
    "circle",
    "typed",
    "mistyped",
    "closed",
    "subcall",
)
_WORKED = {"user": Role.USER, "assistant": Role.ASSISTANT}


@dataclass(frozen=True, slots=True)
class Profile:
    """The texts of one model family, and how much of an output it is shown."""

    name: str
    system: str
    worked: tuple[Message, ...]  # example turns between the system message and the question
    question: str
    observation: str
    open: str
    low: str
    last: str
    held: str
    unsupported: str
    empty: str
    repeated: str
    circle: str
    typed: str
    mistyped: str
    closed: str
    subcall: str
    max_output_chars: int  # of a cell's stdout in an observation
    sha256: str = ""  # of its file


MAX_OUTPUT_CHARS = {"small": 3_000, "large": 20_000}  # characters; small models drown in more


@cache
def load_profile(name: str) -> Profile:
    """Return profile `name`. Raises ConfigError for an unknown name or a file with a section missing."""
    path = _TEXT / f"{name}.md"
    if name not in MAX_OUTPUT_CHARS or not path.is_file():
        raise ConfigError(f"no prompt profile {name!r}; there are {', '.join(sorted(MAX_OUTPUT_CHARS))}")
    once: dict[str, str] = {}
    worked: list[Message] = []
    text = path.read_text(encoding="utf-8")
    for heading, body in _sections(text):
        if heading in _WORKED:
            worked.append(Message(_WORKED[heading], body))
        elif heading in _ONCE and heading not in once:
            once[heading] = body
        else:
            raise ConfigError(f"{path.name}: section {heading!r} is unknown or stands twice")
    if missing := [section for section in _ONCE if section not in once]:
        raise ConfigError(f"{path.name}: section {missing[0]!r} is missing")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Profile(name=name, worked=tuple(worked), max_output_chars=MAX_OUTPUT_CHARS[name], sha256=digest, **once)


def _sections(text: str) -> list[tuple[str, str]]:
    sections: list[tuple[str, list[str]]] = []
    fenced = False  # a `# comment` inside a code fence is no heading
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        if line.startswith("# ") and not fenced:
            sections.append((line[2:].strip(), []))
        elif sections:
            sections[-1][1].append(line)
    return [(heading, "\n".join(lines).strip()) for heading, lines in sections]
