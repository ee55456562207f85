"""`rlm-local rm`: delete a model's weights."""

from __future__ import annotations

import sys

import click

from rlm_local.cards import find_card, load_cards
from rlm_local.cli.transfer import TransferView, size_text
from rlm_local.config import home
from rlm_local.errors import ConfigError, StoreError
from rlm_local.store import Store


@click.command(name="rm")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(name: str, yes: bool) -> None:
    """Delete the weights of the model NAME, and what an unfinished pull left of it."""
    card = find_card(name, load_cards())
    store = Store(home())
    size = store.size(card.name)
    if size == 0:
        raise StoreError(f"model {card.name!r} is not pulled, so there is nothing to remove")
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"rm would delete {size_text(size)} and nobody can be asked", hint="repeat it with --yes")
        if not click.confirm(f"delete {card.name}, {size_text(size)}?", err=True):
            click.echo("nothing was deleted", err=True)
            return
    with TransferView() as view:
        freed = store.remove(card, view)
    click.echo(f"{card.name}: {size_text(freed)} are free again", err=True)
