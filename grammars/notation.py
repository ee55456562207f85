"""The notation of the source: rule bodies and regular expressions, both read into the same few nodes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

LAST_CHAR = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Lit:
    text: str


@dataclass(frozen=True, slots=True)
class Ref:
    name: str  # of a rule in lower case, of a lexeme in upper case


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of these ranges, both ends included."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Seq:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Rep:
    part: Node
    least: int
    most: int | None  # None: without end


Node: TypeAlias = Lit | Ref | Chars | Seq | Alt | Rep

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[A-Za-z_][\w]*|[()|?*+]|\{\d+(?:,\d*)?\})')
_COUNTS = {"?": (0, 1), "*": (0, None), "+": (1, None)}
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0", "a": "\a"}


def read_rule(source: str) -> Node:
    """Return the node of a rule's body. Raises ValueError with the place where it cannot be read."""
    tokens: list[str] = []
    at = 0
    while source[at:].strip():
        found = _TOKEN.match(source, at)
        if not found:
            raise ValueError(f"cannot read {source[at : at + 40]!r} in {source!r}")
        tokens.append(found[1])
        at = found.end()
    node, rest = _alternatives(tokens, 0)
    if rest != len(tokens):
        raise ValueError(f"{tokens[rest]!r} stands alone in {source!r}")
    return node


def _alternatives(tokens: list[str], at: int) -> tuple[Node, int]:
    parts: list[Node] = []
    while True:
        node, at = _sequence(tokens, at)
        parts.append(node)
        if at == len(tokens) or tokens[at] != "|":
            return (parts[0] if len(parts) == 1 else Alt(tuple(parts))), at
        at += 1


def _sequence(tokens: list[str], at: int) -> tuple[Node, int]:
    parts: list[Node] = []
    while at < len(tokens) and tokens[at] not in "|)":
        token = tokens[at]
        if token == "(":
            node, at = _alternatives(tokens, at + 1)
        elif token.startswith('"'):
            node = Lit(json.loads(token))
        else:
            node = Ref(token)
        at += 1
        while at < len(tokens) and (counts := _counts(tokens[at])):
            node = Rep(node, *counts)
            at += 1
        parts.append(node)
    return (parts[0] if len(parts) == 1 else Seq(tuple(parts))), at


def _counts(token: str) -> tuple[int, int | None] | None:
    if token in _COUNTS:
        return _COUNTS[token]
    if not token.startswith("{"):
        return None
    least, comma, most = token[1:-1].partition(",")
    return int(least), int(most) if most else (None if comma else int(least))


def read_regex(source: str) -> Node:
    """Return the node of a regular expression: characters, classes, groups, `|` and counts; no look-around."""
    node, at = _regex_alternatives(source, 0)
    if at != len(source):
        raise ValueError(f"{source[at]!r} stands alone at {at} in /{source}/")
    return node


def _regex_alternatives(source: str, at: int) -> tuple[Node, int]:
    parts: list[Node] = []
    while True:
        run: list[Node] = []
        while at < len(source) and source[at] not in "|)":
            node, at = _regex_piece(source, at)
            run.append(node)
        parts.append(run[0] if len(run) == 1 else Seq(tuple(run)))
        if at == len(source) or source[at] != "|":
            return (parts[0] if len(parts) == 1 else Alt(tuple(parts))), at
        at += 1


def _regex_piece(source: str, at: int) -> tuple[Node, int]:
    node: Node
    char = source[at]
    if char == "(":
        node, at = _regex_alternatives(source, at + 1)
        at += 1
    elif char == "[":
        node, at = _regex_class(source, at + 1)
    elif char == ".":
        node, at = Chars(_without(((10, 10),))), at + 1
    else:
        code, at = _regex_char(source, at)
        node = Lit(chr(code))
    while at < len(source) and (found := re.compile(r"[?*+]|\{\d+(?:,\d*)?\}").match(source, at)):
        counts = _counts(found[0])
        if counts is None:
            raise ValueError(f"{found[0]!r} counts nothing in /{source}/")
        node, at = Rep(node, *counts), found.end()
    return node, at


def _regex_char(source: str, at: int) -> tuple[int, int]:
    if source[at] != "\\":
        return ord(source[at]), at + 1
    name = source[at + 1]
    if name == "x":
        return int(source[at + 2 : at + 4], 16), at + 4
    return ord(_NAMED.get(name, name)), at + 2


def _regex_class(source: str, at: int) -> tuple[Node, int]:
    negated = source[at] == "^"
    at += negated
    ranges: list[tuple[int, int]] = []
    while source[at] != "]":
        first, at = _regex_char(source, at)
        last = first
        if source[at] == "-" and source[at + 1] != "]":
            last, at = _regex_char(source, at + 1)
        ranges.append((first, last))
    merged = tuple(sorted(ranges))
    return Chars(_without(merged) if negated else merged), at + 1


def _without(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    kept: list[tuple[int, int]] = []
    start = 0
    for first, last in sorted(ranges):
        if first > start:
            kept.append((start, first - 1))
        start = max(start, last + 1)
    if start <= LAST_CHAR:
        kept.append((start, LAST_CHAR))
    return tuple(kept)
