"""Folders of the benches that run no tasks (engine, grammar, jail, server) as parts of a report."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from bench.output import RESULT, as_json
from rlm_local.errors import ConfigError

PAGES = ("report.md", "result.md")
_HEADING = re.compile(r"^(#+ )", re.MULTILINE)
_PICTURE = re.compile(r"^!\[.*\]\(.*\)\n+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one of them found."""

    name: str  # of the folder
    page: str  # Markdown, its headings to stand below one of the third level


def is_run(folder: Path) -> bool:
    """Return whether a folder is one of `python -m bench run`, or so broken that read_run is to tell of it."""
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return not any((folder / name).is_file() for name in PAGES)
    return isinstance(found, dict) and "arm" in found


def read_measured(folder: Path) -> Measured:
    """Return what a folder tells: its page, or else its result as it is. Raises ConfigError where it has neither."""
    for name in (*PAGES, RESULT):
        path = folder / name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            page = _below(text) if name in PAGES else f"```json\n{as_json(json.loads(text))}\n```"
            return Measured(folder.name, page.strip())
    raise ConfigError(f"{folder} holds no result", hint="name a folder that a command of the bench has made")


def _below(page: str) -> str:
    """Return a page whose first heading is of the fourth level; pictures stay in their folder."""
    return _HEADING.sub(r"###\1", _PICTURE.sub("", page))
