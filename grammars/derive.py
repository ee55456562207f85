"""Random sentences of the language, made from its rules alone."""

from __future__ import annotations

import re
from random import Random

from grammars.language import Language
from grammars.notation import Alt, Chars, Lit, Node, Ref, Rep, Seq

_ENDLESS = 1 << 30
_NAMES = ("context", "text", "chunk", "chunks", "hits", "re", "i", "x", "line", "count", "result", "documents", "f")
_OTHER_CHARS = "éß→漢😀   "


class Deriver:
    """Draws sentences; the larger the budget, the longer they become.

    Choices are free while the budget lasts; after that each rule takes its shortest way out.
    """

    def __init__(self, language: Language, random: Random) -> None:
        self._language = language
        self._random = random
        self._size = _shortest(language)
        self._left = 0

    def sentence(self, rule: str, budget: int) -> str:
        """Return one sentence of `rule`; budget: lexemes after which no more is started."""
        self._left = budget
        pieces: list[str] = []
        waiting: list[Node] = [Ref(rule)]
        while waiting:
            node = waiting.pop()
            match node:
                case Lit(text):
                    pieces.append(text)
                case Chars(ranges):
                    pieces.append(self._char(ranges))
                case Ref(name) if name in self._language.lexemes:
                    self._left -= 1
                    pieces.append(self._lexeme(name))
                case Ref(name):
                    waiting.append(self._language.rules[name])
                case Seq(parts):
                    waiting += reversed(parts)
                case Alt(parts):
                    waiting.append(self._choice(parts))
                case Rep(part, least, most):
                    waiting += [part] * self._times(least, most)
        return "".join(pieces)

    def _choice(self, parts: tuple[Node, ...]) -> Node:
        if self._left > 0:
            return self._random.choice(parts)
        shortest = min(self._of(part) for part in parts)
        return self._random.choice([part for part in parts if self._of(part) == shortest])

    def _times(self, least: int, most: int | None) -> int:
        times = least
        while self._left > 0 and (most is None or times < most) and self._random.random() < 0.4:
            times += 1
        return times

    def _lexeme(self, name: str) -> str:
        lexeme = self._language.lexemes[name]
        if name == "NAME" and self._random.random() < 0.7:
            return self._random.choice(_NAMES)
        while True:
            text = self._regex(lexeme.node)
            if not (lexeme.without and re.fullmatch(lexeme.without, text)):
                return text

    def _regex(self, node: Node) -> str:
        match node:
            case Lit(text):
                return text
            case Chars(ranges):
                return self._char(ranges)
            case Seq(parts):
                return "".join(self._regex(part) for part in parts)
            case Alt(parts):
                return self._regex(self._random.choice(parts))
            case Rep(part, least, most):
                times = least
                while (most is None or times < most) and self._random.random() < 0.6:
                    times += 1
                return "".join(self._regex(part) for _ in range(times))
            case Ref(name):
                raise ValueError(f"a lexeme refers to {name}")

    def _char(self, ranges: tuple[tuple[int, int], ...]) -> str:
        if ranges[-1][1] > 0x7F and self._random.random() < 0.1:
            return self._random.choice(_OTHER_CHARS)
        first, last = self._random.choice([one for one in ranges if one[0] < 0x7F])
        return chr(self._random.randint(first, min(last, 0x7E)))

    def _of(self, node: Node) -> int:
        return _node_size(node, self._size)


def _shortest(language: Language) -> dict[str, int]:
    """Return how few lexemes each rule can end with."""
    size = dict.fromkeys(language.rules, _ENDLESS) | dict.fromkeys(language.lexemes, 1)
    while True:
        found = {name: min(size[name], _node_size(node, size) + 1) for name, node in language.rules.items()}
        if found.items() <= size.items():
            return size
        size |= found


def _node_size(node: Node, size: dict[str, int]) -> int:
    match node:
        case Ref(name):
            return size[name]
        case Seq(parts):
            return min(_ENDLESS, sum(_node_size(part, size) for part in parts))
        case Alt(parts):
            return min(_node_size(part, size) for part in parts)
        case Rep(part, least):
            return min(_ENDLESS, least * _node_size(part, size))
        case _:
            return 1
