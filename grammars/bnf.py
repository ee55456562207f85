"""The turn language in the notation that xgrammar (vLLM) and llama.cpp's GBNF have in common.

Neither has lexemes, so a lexeme becomes a rule like any other; and neither has a complement, so "an identifier
that is no keyword" is spelled out as a tree of the keywords' letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from grammars.language import SPACES, VARIANTS, Language, Lexeme, references
from grammars.notation import LAST_CHAR, Alt, Chars, Lit, Node, Ref, Rep, Seq, read_regex
from rlm_local.grammar.distinct import CONDITION

HEAD = f"""\
# Written by `python -m grammars.build` from python.grammar; do not edit. `root` is put in front by the state.
# Not in these rules: {CONDITION}.
"""
_ESCAPED = {char: f"\\{char}" for char in '"\\[]^-'} | {"\n": r"\n", "\t": r"\t", "\r": r"\r"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_NO_NAME = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{[^}]*\}')
_IDENTIFIER = re.compile(r"\[A-Za-z_\]\[A-Za-z0-9_\]\*")
# Parts of many lexemes that are rules of their own: an engine prepares each state of a rule once.
_SHARED = {read_regex(f"({regex})"): f"WHITE-{kind}" for kind, regex in SPACES.items()}
# The same for many characters in a row: so many are a rule, and a long run is some of it and a few more.
_RUN = 20
_RUNS = {read_regex(r"[^`\x00-\x1f\x7f]"): "LINE-RUN"}
_FIRST, _REST = (read_regex(one) for one in ("[A-Za-z_]", "[A-Za-z0-9_]"))


def bnf(language: Language) -> str:
    """Return rules and lexemes; the state adds the root."""
    used = set(VARIANTS) | {name for node in language.rules.values() for name in references(node)}
    lines = [HEAD]
    lines += [f"{rule_name(name)} ::= {_text(node)}" for name, node in language.rules.items()]
    lines.append("")
    lines += [f"{name} ::= {_text(node)}" for node, name in _SHARED.items()]
    lines += [f"{name} ::= {_text(node)}{{{_RUN}}}" for node, name in _RUNS.items()]
    for name, lexeme in language.lexemes.items():
        if name in used:
            lines += _lexeme(rule_name(name), lexeme)
    return "\n".join(lines) + "\n"


def reachable(text: str, roots: Iterable[str]) -> str:
    """Return those rules of a grammar in this notation that can be reached from `roots`, in their order."""
    rules = dict(line.split(" ::= ", 1) for line in text.splitlines() if " ::= " in line)
    found, look_at = set(roots), list(roots)
    while look_at:
        named = set(_NAME.findall(_NO_NAME.sub(" ", rules[look_at.pop()]))) - found
        found |= named
        look_at += named
    return "".join(f"{name} ::= {rule}\n" for name, rule in rules.items() if name in found)


def rule_name(name: str) -> str:
    """Rules are in lower case and lexemes in upper case; GBNF knows no underscores."""
    return name.replace("_", "-")


def _lexeme(name: str, lexeme: Lexeme) -> Iterator[str]:
    if not lexeme.without:
        yield f"{name} ::= {_text(lexeme.node)}"
        return
    words = lexeme.without.split("|")
    if not _IDENTIFIER.fullmatch(lexeme.regex) or not all(word.isidentifier() for word in words):
        raise ValueError(f"only words can be taken out, and only of identifiers: {name}")
    yield from _all_but(name, words)


def _all_but(name: str, words: list[str]) -> Iterator[str]:
    """Yield rules for the identifiers that are none of `words`: one rule for each beginning of a word."""
    beginnings = sorted({word[:length] for word in words for length in range(len(word) + 1)})
    rule = {beginning: f"{name}{number or ''}" for number, beginning in enumerate(beginnings)}
    rest = f"{_chars(_ranges(_REST))}*"
    for beginning in beginnings:
        letters = [one[-1] for one in beginnings if one and one[:-1] == beginning]
        free = _left(_ranges(_REST if beginning else _FIRST), letters)
        ways = [f"{_chars(free)} {rest}"]
        ways += [f'"{letter}" {rule[beginning + letter]}' for letter in letters]
        if beginning and beginning not in words:
            ways.append('""')
        yield f"{rule[beginning]} ::= {' | '.join(ways)}"


def _ranges(node: Node) -> tuple[tuple[int, int], ...]:
    if not isinstance(node, Chars):
        raise TypeError(f"no class of characters: {node}")
    return node.ranges


def _left(ranges: tuple[tuple[int, int], ...], letters: list[str]) -> tuple[tuple[int, int], ...]:
    codes = [code for first, last in ranges for code in range(first, last + 1) if chr(code) not in letters]
    merged: list[tuple[int, int]] = []
    for code in codes:
        if merged and merged[-1][1] == code - 1:
            merged[-1] = (merged[-1][0], code)
        else:
            merged.append((code, code))
    return tuple(merged)


def _text(node: Node) -> str:
    match node:
        case Lit(text):
            return _quoted(text)
        case Ref(name):
            return rule_name(name)
        case Chars(ranges):
            return _chars(ranges)
        case Rep(part, least, most) if part in _SHARED:
            return _SHARED[part] + _count(least, most)
        case Rep(part, 0, int(most)) if most >= 2 * _RUN and part in _RUNS and (most + 1) % _RUN == 0:
            return f"{_RUNS[part]}{{0,{(most + 1) // _RUN - 1}}} {_text(part)}{{0,{_RUN - 1}}}"
        case Seq(parts):
            return " ".join(_joined(parts)) or '""'
        case Alt(parts):
            return " | ".join(_text(part) for part in parts)
        case Rep(part, least, most):
            return _group(part, (Alt, Seq, Rep)) + _count(least, most)


def _joined(parts: tuple[Node, ...]) -> Iterator[str]:
    """Yield the parts of a sequence; letters that follow each other become one literal."""
    run = ""
    for part in parts:
        if isinstance(part, Lit):
            run += part.text
            continue
        if run:
            yield _quoted(run)
            run = ""
        yield _SHARED.get(part) or _group(part, Alt)
    if run:
        yield _quoted(run)


def _group(node: Node, kinds: type | tuple[type, ...]) -> str:
    return f"({_text(node)})" if isinstance(node, kinds) else _text(node)


def _count(least: int, most: int | None) -> str:
    named = {(0, 1): "?", (0, None): "*", (1, None): "+"}
    if (least, most) in named:
        return named[least, most]
    return f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}"


def _quoted(text: str) -> str:
    return '"' + "".join(_named(char) if char in '"\\\n\t\r' else char for char in text) + '"'


def _chars(ranges: tuple[tuple[int, int], ...]) -> str:
    if ranges[-1][1] == LAST_CHAR:
        return f"[^{_class(_gaps(ranges))}]"
    return f"[{_class(ranges)}]"


def _gaps(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    ends = [-1, *(last for _, last in ranges)]
    gaps = ((before + 1, first - 1) for before, (first, _) in zip(ends, ranges, strict=False))
    return tuple((first, last) for first, last in gaps if first <= last)


def _class(ranges: tuple[tuple[int, int], ...]) -> str:
    return "".join(_named(chr(first)) + (f"-{_named(chr(last))}" if last > first else "") for first, last in ranges)


def _named(char: str) -> str:
    if char in _ESCAPED:
        return _ESCAPED[char]
    # Four digits: xgrammar reads as many hexadecimal ones after \x as there are, so \x1FF would be one character.
    return char if " " <= char <= "~" else f"\\u{ord(char):04X}"
