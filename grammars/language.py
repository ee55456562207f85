"""The turn language as rules and lexemes, copied out from the templates of the source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grammars.notation import Alt, Chars, Lit, Node, Ref, Rep, Seq, read_regex, read_rule

SOURCE = Path(__file__).resolve().parent / "python.grammar"
LEVELS = 9  # blocks at 0, 4, ... 32 spaces
BRACKETS = 9  # one inside the other
FIELD_BRACKETS = 3  # one inside the other, in a field of an f-string
SPACES = {  # white space: on a line (a backslash continues it), in brackets, and in a field of an f-string
    "L": r" {1,16}| {0,8}\\\n {0,40}",
    "B": r" {1,60}|( {0,60}(#[^`\x00-\x1f\x7f]*)?\n){1,4} {0,60}",
    "F": r" {1,4}",
}
_LINE_END = " {0,16}"  # what may follow a comma or semicolon that ends a line of code
# What a state's start may name.
ROOTS = ("prose", "block", "listed_block", "final", "plain_final", "answer_block", "call_block", "submit_block")
VARIANTS = ("LEAF_NAME",)  # lexemes that take another's place in some states
_STATES = ("", "f", "l", "fl")  # in a function, in a loop


@dataclass(frozen=True, slots=True)
class Lexeme:
    regex: str
    node: Node
    without: str  # a regular expression whose texts are taken out; may be empty


@dataclass(frozen=True, slots=True)
class Language:
    rules: dict[str, Node]
    lexemes: dict[str, Lexeme]


@dataclass(frozen=True, slots=True)
class _Mode:
    """A kind of place where an expression may stand."""

    name: str
    inner: str  # mode inside of its brackets; empty where none may be opened
    space: str  # the kind of white space: L, B or F
    has: frozenset[str]


def read_language() -> Language:
    """Return the whole language. Raises ValueError for a source that cannot be read."""
    sections = dict(_sections(SOURCE.read_text(encoding="utf-8")))
    templates = _Templates()
    for name in ("turn", "text", "parameters", "simple"):
        templates.add(sections[name])
    for level in range(BRACKETS + 1):
        has = {"inner"} if level < BRACKETS else set()
        templates.add(sections["literal"], has=has, swap={"@": _suffix(str(level or "")), ">": _suffix(str(level + 1))})
    for mode in _modes():
        strings = "F" + mode.name[1] if mode.name.startswith("F") else "line"
        for section in ("expression", f"strings {strings}"):
            templates.add(sections[section], has=mode.has, swap=_mode_names(mode))
        if mode.name.startswith("F") and len(mode.name) == 2:
            templates.add(sections["field"], swap=_mode_names(mode))
    for state in _STATES:
        flags = _flags(state)
        templates.add(sections["statement"], has=flags, swap={"%": _suffix(state)})
    for level in range(LEVELS + 1):
        for state in _STATES if level else ("",):
            has = _flags(state) | {"indented" if level else "top"}
            lines = sections["block"] if level < LEVELS else [one for one in sections["block"] if one[0] == "suite@"]
            templates.add(lines, has=has, swap=_block_names(level, state))
    lexemes = _lexemes(sections["lexemes"])
    return Language(_pruned(templates.rules, lexemes), lexemes)


Line = tuple[str, str]  # the head of a definition and its body


def _sections(source: str) -> Iterator[tuple[str, list[Line]]]:
    name = ""
    lines: list[Line] = []
    for line in source.splitlines():
        if line.startswith("[") and line.endswith("]"):
            if name:
                yield name, lines
            name, lines = line[1:-1], []
        elif line and not line.startswith("#"):
            found = re.match(r"(\S+?)(?:: | = )(.*)", line)
            if not found:
                raise ValueError(f"neither a rule nor a lexeme: {line!r}")
            lines.append((found[1], found[2]))
    yield name, lines


class _Templates:
    def __init__(self) -> None:
        self.rules: dict[str, Node] = {}

    def add(
        self, lines: list[Line], *, has: frozenset[str] | set[str] = frozenset(), swap: dict[str, str] | None = None
    ) -> None:
        """Copy a section's rules with its marks replaced; those that want what is not there are left out."""
        marks = _marks(swap or {"@": ""})
        for head, body in lines:
            body, _, wanted = body.partition("  if ")
            if wanted and wanted not in has:
                continue
            name, text = (_outside_literals(marks, swap or {}, part) for part in (head, body))
            node = read_rule(text)
            self.rules[name] = Alt((self.rules[name], node)) if name in self.rules else node


def _marks(swap: dict[str, str]) -> re.Pattern[str]:
    longest_first = sorted(swap, key=len, reverse=True)
    return re.compile("|".join(rf"\b{mark}\b" if mark.isalpha() else re.escape(mark) for mark in longest_first))


def _outside_literals(marks: re.Pattern[str], swap: dict[str, str], text: str) -> str:
    pieces = re.split(r'("(?:[^"\\]|\\.)*")', text)
    return "".join(one if number % 2 else marks.sub(lambda m: swap[m[0]], one) for number, one in enumerate(pieces))


def _modes() -> Iterator[_Mode]:
    everywhere = {"inner", "brace"}
    yield _Mode("L", "B1", "L", frozenset(everywhere | {"walrus", "flat"}))
    for depth in range(1, BRACKETS + 1):
        inner = f"B{depth + 1}" if depth < BRACKETS else ""
        yield _Mode(f"B{depth}", inner, "B", frozenset((everywhere if inner else set()) | {"bracketed"}))
    for quotes in ("F2", "F1", "F3", "F0"):
        for depth in range(FIELD_BRACKETS + 1):
            inner = f"{quotes}{'i' * (depth + 1)}" if depth < FIELD_BRACKETS else ""
            has = {"flat"} | ({"inner"} if inner else set()) | ({"brace"} if inner and depth else set())
            yield _Mode(f"{quotes}{'i' * depth}", inner, "F", frozenset(has))


def _mode_names(mode: _Mode) -> dict[str, str]:
    inner = mode.inner or "nowhere"
    inside = "F" if mode.space == "F" else "B"
    return {"@": f"_{mode.name}", "^": f"_{inner}", "$": f"_{mode.space}", "&": f"_{inside}"}


def _flags(state: str) -> set[str]:
    return {word for letter, word in (("f", "function"), ("l", "loop")) if letter in state}


def _suffix(state: str) -> str:
    return f"_{state}" if state else ""


def _block_names(level: int, state: str) -> dict[str, str]:
    def deeper(state: str) -> str:
        return f"_{level + 1}{state}"

    loop = state if "l" in state else state + "l"
    names = {"@": f"_{level}{state}", "%": _suffix(state), "#": str(level)}
    return names | {">loop": deeper(loop), ">def": deeper("f"), ">class": deeper(""), ">": deeper(state)}


def _lexemes(lines: list[Line]) -> dict[str, Lexeme]:
    lexemes: dict[str, Lexeme] = {}
    for name, body in lines:
        found = re.fullmatch(r"/(.*?)/(?: not /(.*)/)?", body)
        if not found:
            raise ValueError(f"{name} is no regular expression: {body!r}")
        for copy, regex in _copies(name, found[1]):
            lexemes[copy] = Lexeme(regex, read_regex(regex), found[2] or "")
    return lexemes


def _copies(name: str, regex: str) -> Iterator[tuple[str, str]]:
    if "#" in name:
        for level in range(1, LEVELS):
            yield name.replace("#", str(level)), regex.replace("<INDENT>", f" {{{4 * level}}}")
    elif "$" in name:
        for kind, space in SPACES.items():
            end = _LINE_END if kind == "L" else f"({space})?"
            spaced = regex.replace("<W>", f"({space})").replace("<O>", f"({space})?").replace("<E>", end)
            yield name.replace("$", f"_{kind}"), spaced
    else:
        yield name, regex


def _pruned(rules: dict[str, Node], lexemes: dict[str, Lexeme]) -> dict[str, Node]:
    """Return the rules without what refers to rules that are not there, and without what nothing refers to."""
    while True:
        kept = {name: node for name, rule in rules.items() if (node := _without_gaps(rule, rules, lexemes))}
        if kept == rules:
            break
        rules = kept
    reached: set[str] = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name in rules and name not in reached:
            reached.add(name)
            waiting += references(rules[name])
    return {name: node for name, node in rules.items() if name in reached}


def _without_gaps(node: Node, rules: dict[str, Node], lexemes: dict[str, Lexeme]) -> Node | None:
    match node:
        case Ref(name):
            return node if name in rules or name in lexemes else None
        case Seq(parts):
            mended = [_without_gaps(part, rules, lexemes) for part in parts]
            return None if None in mended else Seq(tuple(part for part in mended if part))
        case Alt(parts):
            left = tuple(one for part in parts if (one := _without_gaps(part, rules, lexemes)))
            return left[0] if len(left) == 1 else Alt(left) if left else None
        case Rep(part, least, most):
            one = _without_gaps(part, rules, lexemes)
            return Rep(one, least, most) if one else None if least else Seq(())
        case Lit() | Chars():
            return node


def references(node: Node) -> Iterator[str]:
    """Yield the names that a node refers to."""
    match node:
        case Ref(name):
            yield name
        case Seq(parts) | Alt(parts):
            for part in parts:
                yield from references(part)
        case Rep(part):
            yield from references(part)
        case _:
            pass
