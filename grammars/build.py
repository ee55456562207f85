"""`python -m grammars.build [--check]`: writes every dialect of the turn language from its source."""

from __future__ import annotations

import sys
from pathlib import Path

from grammars.bnf import bnf
from grammars.language import read_language
from grammars.lark import lark

ROOM = Path(__file__).resolve().parent


def generated() -> dict[str, str]:
    """Return what each generated file must hold, by its name in this folder."""
    language = read_language()
    return {"python.lark": lark(language), "python.gbnf": bnf(language)}


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
