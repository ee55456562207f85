"""What every command of the bench says while it runs, and how it leaves its result in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from bench.provenance import Provenance

RESULT = "result.json"
PROGRAM = click.Path(path_type=Path, exists=True, dir_okay=False, executable=True)


def say(line: str) -> None:
    """Tell of progress. Standard output is for the result alone."""
    click.echo(line, err=True)


def as_json(found: Mapping[str, object]) -> str:
    """Return a result as it is printed and written: readable, in the letters that it has."""
    return json.dumps(found, indent=1, ensure_ascii=False)


def write_result(found: Mapping[str, object], folder: Path | None, made: Provenance | None = None) -> None:
    """Write result.json into a folder, which may be new; None writes nothing. made: how, where `found` does not say."""
    if folder is None:
        return
    told = dict(found) if made is None else {**found, "provenance": asdict(made)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(as_json(told) + "\n", encoding="utf-8")


def tell_result(found: Mapping[str, object], folder: Path | None, made: Provenance | None = None) -> None:
    """Write result.json as write_result does, and print what was found."""
    write_result(found, folder, made)
    click.echo(as_json(found))
