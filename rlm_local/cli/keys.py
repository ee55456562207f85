"""`rlm-local keys`: who may speak to a server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from rlm_local.cli.streams import write_result
from rlm_local.config import home

if TYPE_CHECKING:
    from rlm_local.server.keys import Keys

T = TypeVar("T")
_STATE = click.option("--state", type=click.Path(path_type=Path), default=None, help="The server's folder.")


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of `rlm-local serve`. A running server heeds them at once."""


@keys.command()
@click.argument("name")
@click.option("--tenant", default=None, help="For whom the key speaks; by default its name.")
@_STATE
def add(name: str, tenant: str | None, state: Path | None) -> None:
    """Make a key and print it, once: only its hash is kept.

    Keys of one tenant share files and runs; tenants share nothing. From the first key on every caller needs one.
    """
    _, secret = _with(state, lambda made: made.add(name, tenant))
    write_result(secret, kept="nothing keeps it; revoke it and make another")


@keys.command("list")
@_STATE
def list_keys(state: Path | None) -> None:
    """Show all keys: id, state, day, tenant, name."""
    for key in _with(state, lambda made: made.all()):
        made_on = datetime.fromtimestamp(key.created, UTC).date()
        click.echo(f"{key.id}  {'revoked' if key.revoked else 'valid  '}  {made_on}  {key.tenant}  {key.name}")


@keys.command()
@click.argument("key_id", metavar="ID")
@_STATE
def revoke(key_id: str, state: Path | None) -> None:
    """End a key. A server stays closed to callers without one, also when the last is revoked."""
    _with(state, lambda made: made.revoke(key_id))
    click.echo(f"{key_id} is revoked")


def _with(state: Path | None, work: Callable[[Keys], T]) -> T:
    from rlm_local.server.database import Database
    from rlm_local.server.keys import Keys

    database = Database(state or home().server)
    try:
        return work(Keys(database))
    finally:
        database.close()
