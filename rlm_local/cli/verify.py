"""`rlm-local verify`: read every byte of the weights again."""

from __future__ import annotations

import click

from rlm_local.cards import Card, find_card, load_cards
from rlm_local.cli.transfer import TransferView
from rlm_local.config import home
from rlm_local.errors import StoreError
from rlm_local.store import Store, pull_command


@click.command(name="verify")
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Hash the weights of the models NAMES again, or of all that are here, without any network.

    Prints one line a file. Exits with 1 when a file is missing or differs from its card or its record.
    """
    store = Store(home())
    chosen = _chosen(names, store)
    with TransferView() as view:
        checks = [check for card in chosen for check in store.verify(card, view)]
    for check in checks:
        click.echo(check.problem or f"{check.path}: sha256 {check.expected_sha256}, as it should be")
    broken = sorted({(check.card, check.engine) for check in checks if check.problem})
    if broken:
        wrong = sum(bool(check.problem) for check in checks)
        repair = " && ".join(pull_command(card, engine) for card, engine in broken)
        raise StoreError(f"{wrong} of {len(checks)} files are not what was pulled", hint=f"run `{repair}`")


def _chosen(names: tuple[str, ...], store: Store) -> list[Card]:
    cards = load_cards()
    if names:
        return [find_card(name, cards) for name in names]
    here = {one.card for one in store.installed()}
    chosen = [card for card in cards if card.name in here]
    if not chosen:
        raise StoreError("no model is here to verify", hint="run `rlm-local pull NAME`; `rlm-local list` shows names")
    return chosen
