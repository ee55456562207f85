"""Lines with a label that a person gave: TREC's questions, text messages, sentences of film reviews."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.tasks.task import Sources

TREC_LABELS = {
    "ABBR": "abbreviation",
    "DESC": "description and abstract concept",
    "ENTY": "entity",
    "HUM": "human being",
    "LOC": "location",
    "NUM": "numeric value",
}


@dataclass(frozen=True, slots=True)
class LineSet:
    """A set of lines, and what a window says of them."""

    name: str
    file: str
    lines: str  # what they are: "general-knowledge questions"
    labelled: str  # how a label belongs to a line
    labels: tuple[str, ...]
    guess: Callable[[str], str]  # the floor: a label by regular expressions


def read_lines(sources: Sources, name: str) -> list[tuple[str, str]]:
    """Return text and label of each line of a file of the data folder, as they stand there."""
    data = sources.read(name)
    if name.endswith(".label"):  # "NUM:date When was ... ?", Latin-1
        pairs = [line.split(" ", 1) for line in data.decode("latin-1").split("\n") if line]
        return [(text, TREC_LABELS[kind.split(":")[0]]) for kind, text in pairs]
    return [(one["text"], one["label"]) for one in map(json.loads, filter(None, data.decode("utf-8").split("\n")))]


def by_label(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the texts of each label, each once and on one line; a text with two labels is left out."""
    labels: dict[str, set[str]] = {}
    for text, label in pairs:
        labels.setdefault(" ".join(text.split()), set()).add(label)
    found: dict[str, list[str]] = {}
    for text, own in labels.items():
        if text and len(own) == 1:
            found.setdefault(next(iter(own)), []).append(text)
    return found


def first_match(rules: Mapping[str, str], otherwise: str) -> Callable[[str], str]:
    """Return a guesser: the label of the first pattern that is found."""
    compiled = [(re.compile(pattern, re.IGNORECASE), label) for pattern, label in rules.items()]

    def guess(text: str) -> str:
        return next((label for pattern, label in compiled if pattern.search(text)), otherwise)

    return guess


_D, _E, _H = TREC_LABELS["DESC"], TREC_LABELS["ENTY"], TREC_LABELS["HUM"]
_N, _L, _A = TREC_LABELS["NUM"], TREC_LABELS["LOC"], TREC_LABELS["ABBR"]
SETS = (
    LineSet(
        name="trec",
        file="trec/train_5500.label",
        lines="general-knowledge questions",
        labelled="The answer to each question is of one kind",
        labels=tuple(TREC_LABELS.values()),
        guess=first_match(
            {
                r"stands? for|abbreviat|acronym|full form|what does [A-Z.]{2,} mean": _A,
                r"how (many|much|long|old|far|tall|big|fast|often|high|deep|large|late|hot|wide|close)\b": _N,
                r"\bwhen\b|what (year|date|day|month|time|percentage)\b|which year": _N,
                r"\b(date|population|size|speed) of\b|\b(number|length|height|distance|temperature|quantity) \w+": _N,
                r"\b(rate|cost|price|salary|average|zip code) \w+": _N,
                r"\bwho\b|\bwhose\b|\bwhom\b|\b(man|woman|actor|actress|president|singer|author|writer|star) \w+": _H,
                r"what \S*(company|team|person|player|painter|leader|tribe|organization|composer|inventor|group)\b": _H,
                r"\bwhere\b|(what|which|name).*\b(countr|cit(y|ies)\b|states?\b|continent|river|county|island)": _L,
                r"(what|which|name).*\b(mountain|waterfall|oceans?\b|planet|province|capital|lake|sea\b|street)": _L,
                r"^(why|how)\b|^what (is|are) an? |origin|definition|difference|^define|\bmean\b|history of|cause": _D,
                r"^what (is|are|was|were) [^?]{1,22}\?$": _D,
            },
            _E,
        ),
    ),
    LineSet(
        name="spam",
        file="oolong_sources/sms_spam.jsonl",
        lines="text messages",
        labelled="Each message is of one kind",
        labels=("spam", "ham"),
        guess=first_match(
            {r"free|txt|claim|prize|won\b|urgent|\bstop\b|£|\b\d{5,}\b|www|call \d|reply|mobile|cash": "spam"}, "ham"
        ),
    ),
    LineSet(
        name="subjectivity",
        file="oolong_sources/subjectivity.jsonl",
        lines="sentences about films",
        labelled="Each sentence is of one kind",
        labels=("subjective opinion", "objective plot statement"),
        guess=first_match(
            {
                r"film|movie|comedy|drama|funny|enough|too |performance|director|audience|--|;|\bi\b": (
                    "subjective opinion"
                )
            },
            "objective plot statement",
        ),
    ),
)
