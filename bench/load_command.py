"""The command `python -m bench load`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench.load import KILLED_UP_TO, Plan, load
from bench.output import say
from bench.provenance import command_line, provenance, refuse_full
from rlm_local.cards import find_card, load_cards
from rlm_local.cli.values import Folder
from rlm_local.config import home
from rlm_local.errors import ConfigError
from rlm_local.store import Store


@click.command("load")
@click.option("--model", default="smollm2-135m", help="Name or alias of a model card; its weights must be pulled.")
@click.option("--requests", type=click.IntRange(min=1), default=2_000, help="How many requests in all.")
@click.option("--clients", type=click.IntRange(min=1), default=200, help="Requests under way at once.")
@click.option("--tenants", type=click.IntRange(min=2), default=20, help="Each has a key and a canary of its own.")
@click.option("--kills", type=click.IntRange(min=0), default=10, help="How often the engine's process is killed.")
@click.option("--seed", type=int, default=0, help="Decides the requests and the moments of the kills.")
@click.option("--out", type=Folder(), default=None, help="Folder for result.json and result.md.")
def load_command(model: str, requests: int, clients: int, tenants: int, kills: int, seed: int, out: Path | None) -> int:
    """Put many clients of many tenants on a real server whose engine is killed by kill -9.

    Exit code 1 when anything was not as it must be: a request without an answer or a clear error, an answer that
    crossed between tenants, a slow /health, or memory, descriptors or processes that are left.
    """
    refuse_full(out)
    if kills >= requests * KILLED_UP_TO:
        raise ConfigError(f"{kills} kills are too many among {requests} requests; ask for {int(2 * kills) + 2} or more")
    card, store, made = find_card(model, load_cards()), Store(home()), provenance(command_line())
    plan = Plan(requests, clients, tenants, kills, seed, card.name)
    setting = asdict(plan) | {"weights": f"sha256 {store.sha256(card, 'llama')}"}
    with TemporaryDirectory(prefix="rlm-load-") as folder:
        result = asyncio.run(load(plan, Path(folder), say))
    if out is not None:
        result.write(out, setting, made)
    for line in result.lines():
        click.echo(line)
    return 1 if result.faults() else 0
