"""`python -m grammars.build [--check]`: writes every dialect of the turn language from its source."""

from __future__ import annotations

import sys
from pathlib import Path

from grammars.bnf import bnf, reachable
from grammars.language import read_language
from grammars.lark import lark

ROOM = Path(__file__).resolve().parent
PROSE_AND_ANSWERS = ("prose", "final", "plain-final", "answer-block", "call-block", "submit-block", "answered")
SKELETON_HEAD = "# Written by `python -m grammars.build` from skeleton.bnf and python.grammar; do not edit."


def generated() -> dict[str, str]:
    """Return what each generated file must hold, by its name in this folder."""
    language = read_language()
    whole = bnf(language)
    code = (ROOM / "skeleton.bnf").read_text(encoding="utf-8")
    return {
        "python.lark": lark(language),
        "python.gbnf": whole,
        "skeleton.gbnf": f"{SKELETON_HEAD}\n{code}\n{reachable(whole, PROSE_AND_ANSWERS)}",
    }


def main() -> None:
    """Write the files; with --check, exit 1 when that would change one."""
    for name, text in generated().items():
        path = ROOM / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"grammars/{name} is stale; run `python -m grammars.build`")


if __name__ == "__main__":
    main()
