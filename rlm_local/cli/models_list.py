"""`rlm-local list`: the models that there are cards for, and which of them are here."""

from __future__ import annotations

import json

import click

from rlm_local.cards import DEFAULT_MODEL, Card, load_cards
from rlm_local.cli.transfer import size_text
from rlm_local.config import home
from rlm_local.store import Installed, Store


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_models(as_json: bool) -> None:
    """List all models: name, aliases, profile, licence, size, and whether the weights are here."""
    cards = load_cards()
    installed = Store(home()).installed()
    rows = [(card, {str(one.engine): one for one in installed if one.card == card.name}) for card in cards]
    if as_json:
        click.echo(json.dumps([_as_json(*row) for row in rows], indent=2))
    else:
        click.echo(_table([_cells(*row) for row in rows]))
    for one in installed:
        if one.card not in {card.name for card in cards}:
            click.echo(f"{one.folder} belongs to no card; put its card back or delete the folder", err=True)


def _as_json(card: Card, here: dict[str, Installed]) -> dict[str, object]:
    return {
        "name": card.name,
        "default": card.name == DEFAULT_MODEL,
        "aliases": list(card.aliases),
        "profile": card.profile,
        "licence": card.licence,
        "engines": {str(weights.engine): {"bytes": weights.bytes} for weights in card.engines},
        "installed": {engine: {"bytes": one.manifest.bytes} for engine, one in here.items()},
    }


def _cells(card: Card, here: dict[str, Installed]) -> list[str]:
    size_by_engine = {str(weights.engine): weights.bytes for weights in card.engines}
    size_by_engine |= {engine: one.manifest.bytes for engine, one in here.items()}
    return [
        f"{card.name}{' (default)' if card.name == DEFAULT_MODEL else ''}",
        card.profile,
        card.licence,
        ", ".join(f"{engine} {size_text(size)}" for engine, size in size_by_engine.items()),
        ", ".join(here) or "-",
        ", ".join(card.aliases),
    ]


def _table(rows: list[list[str]]) -> str:
    """Return columns padded with blanks, so that a narrow terminal or a pipe cuts nothing."""
    lines = [["NAME", "PROFILE", "LICENCE", "SIZE", "INSTALLED", "ALIASES"], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
