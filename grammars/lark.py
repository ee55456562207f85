"""The turn language in llguidance's Lark."""

from __future__ import annotations

import json

from grammars.language import VARIANTS, Language, references
from grammars.notation import Alt, Chars, Lit, Node, Ref, Rep, Seq
from rlm_local.grammar.distinct import CONDITION

HEAD = f"""\
// Written by `python -m grammars.build` from python.grammar; do not edit. `start` is put in front by the state.
// condition: {CONDITION}
"""


def lark(language: Language) -> str:
    """Return rules and lexemes; rlm_local/grammar/shape.py adds the start."""
    used = set(VARIANTS) | {name for node in language.rules.values() for name in references(node)}
    lines = [HEAD]
    lines += [f"{_name(name)}: {_text(node)}" for name, node in language.rules.items()]
    lines.append("")
    for name, lexeme in language.lexemes.items():
        if name in used:
            lines.append(f"{name}: /{lexeme.regex}/" + (f" & ~/{lexeme.without}/" if lexeme.without else ""))
    return "\n".join(lines) + "\n"


def _name(name: str) -> str:
    return name.lower()


def _text(node: Node) -> str:
    match node:
        case Lit(text):
            return json.dumps(text)
        case Ref(name):
            return name if name.isupper() else _name(name)
        case Seq(parts):
            return " ".join(_group(part, Alt) for part in parts) or '""'
        case Alt(parts):
            return " | ".join(_text(part) for part in parts)
        case Rep(part, least, most):
            return _group(part, (Alt, Seq, Rep)) + _count(least, most)
        case Chars():
            raise ValueError("a rule has no characters of its own")


def _group(node: Node, kinds: type | tuple[type, ...]) -> str:
    return f"({_text(node)})" if isinstance(node, kinds) else _text(node)


def _count(least: int, most: int | None) -> str:
    named = {(0, 1): "?", (0, None): "*", (1, None): "+"}
    return named.get((least, most)) or f"{{{least},{'' if most is None else most}}}"
