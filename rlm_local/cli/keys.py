"""`rlm-local keys`: who may speak to a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from rlm_local.cli.options import told_in_options
from rlm_local.cli.streams import write_result
from rlm_local.config import home

if TYPE_CHECKING:
    from rlm_local.server.keys import Keys
    from rlm_local.server.quotas import KeyLimits

T = TypeVar("T")
_OPTION_BY_BOUND = {
    "max_runs": "--max-runs",
    "tokens_a_day": "--tokens-a-day",
    "max_document_bytes": "--max-document-bytes",
}
_STATE = click.option("--state", type=click.Path(path_type=Path), default=None, help="The server's folder.")


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of `rlm-local serve`. A running server heeds them at once."""


@keys.command()
@click.argument("name")
@click.option("--tenant", default=None, help="For whom the key speaks; by default its name.")
@click.option("--max-runs", type=int, default=None, help="Runs that it may have at one time, those that wait included.")
@click.option("--tokens-a-day", type=int, default=None, help="Prompt and completion tokens until 0:00 UTC.")
@click.option("--max-document-bytes", type=int, default=None, help="Of each of its documents.")
@_STATE
def add(
    name: str,
    tenant: str | None,
    max_runs: int | None,
    tokens_a_day: int | None,
    max_document_bytes: int | None,
    state: Path | None,
) -> None:
    """Make a key and print it, once: only its hash is kept.

    Keys of one tenant share files and runs; tenants share nothing. From the first key on every caller needs one.
    """
    from rlm_local.server.quotas import KeyLimits

    with told_in_options(_OPTION_BY_BOUND):
        limits = KeyLimits(max_runs, tokens_a_day, max_document_bytes)
    _, secret = _with(state, lambda made: made.add(name, tenant, limits))
    write_result(secret, kept="nothing keeps it; revoke it and make another")


@keys.command("list")
@_STATE
def list_keys(state: Path | None) -> None:
    """Show all keys: id, state, day, tenant, name, and the bounds that it has."""
    made = _with(state, lambda made: made.all())
    if not made:
        click.echo("there are no keys: this machine alone is served, and needs none", err=True)
    for key in made:
        made_on = datetime.fromtimestamp(key.created, UTC).date()
        state_of = "revoked" if key.revoked else "valid  "
        click.echo(f"{key.id}  {state_of}  {made_on}  {key.tenant}  {key.name}{_bounds(key.limits)}")


@keys.command()
@click.argument("key_id", metavar="ID")
@_STATE
def revoke(key_id: str, state: Path | None) -> None:
    """End a key. A server stays closed to callers without one, also when the last is revoked."""
    _with(state, lambda made: made.revoke(key_id))
    click.echo(f"{key_id} is revoked")


def _bounds(limits: KeyLimits) -> str:
    told = [f"{name}={bound}" for name, bound in asdict(limits).items() if bound is not None]
    return f"  {' '.join(told)}" if told else ""


def _with(state: Path | None, work: Callable[[Keys], T]) -> T:
    from rlm_local.server.database import Database
    from rlm_local.server.keys import Keys

    database = Database(state or home().server)
    try:
        return work(Keys(database))
    finally:
        database.close()
