"""Writes the list of files in ARCHITECTURE.md from the first sentence of each file's own docstring."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN = "<!-- files: written by `python -m tools.architecture`, checked by tests/test_house.py -->"
END = "<!-- end of files -->"


def main() -> None:
    """Rewrite the list; with --check, exit 1 when that would change it."""
    written = PAGE.read_text(encoding="utf-8")
    wanted = with_files(written)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if written == wanted else "ARCHITECTURE.md is stale; run `python -m tools.architecture`")
    PAGE.write_text(wanted, encoding="utf-8")


def with_files(page: str) -> str:
    """Return the page with its list of files made anew from the sources."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{file_list()}\n{END}{tail}"


def file_list() -> str:
    lines: list[str] = []
    for folder, paths in groupby(sorted(_sources(), key=_place), key=lambda path: path.parent):
        lines.append(f"\n**{folder}/**\n" if lines else f"**{folder}/**\n")
        lines += [f"- `{path.name}`: {sentence}" for path in paths if (sentence := first_sentence(ROOT / path))]
    return "\n".join(lines) + "\n"


def first_sentence(path: Path) -> str:
    """Return the first line of a file's docstring; empty for a file without one."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n", 1)[0]


def _place(path: Path) -> tuple[int, str]:
    top = ("rlm_local", "grammars", "sandbox", "bench", "tools")
    return top.index(path.parts[0]), str(path.parent / "" / path.name) if path.parent.parts[1:] else f" {path.name}"


def _sources() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in dict.fromkeys(listed.stdout.splitlines()):  # a file in conflict stands there three times
        path = Path(name)
        if path.parts[0] != "tests" and path.name != "__init__.py" and (ROOT / path).is_file():
            yield path


if __name__ == "__main__":
    main()
