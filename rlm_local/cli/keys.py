"""`rlm-local keys`: who may speak to a server."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlm_local.cli.options import told_in_options
from rlm_local.cli.records import recorded, state_option
from rlm_local.cli.streams import write_lines, write_result
from rlm_local.cli.values import identifier
from rlm_local.config import home
from rlm_local.errors import ConfigError

if TYPE_CHECKING:
    from rlm_local.server.database import Database
    from rlm_local.server.keys import Key
    from rlm_local.server.quotas import KeyLimits

_OPTION_BY_BOUND = {
    "max_runs": "--max-runs",
    "tokens_a_day": "--tokens-a-day",
    "max_document_bytes": "--max-document-bytes",
}


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of `rlm-local serve`. A running server heeds them at once."""


@keys.command()
@click.argument("name")
@click.option("--tenant", default=None, help="For whom the key speaks; by default its name.")
@click.option("--max-runs", type=int, default=None, help="Runs that it may have at one time, those that wait included.")
@click.option("--tokens-a-day", type=int, default=None, help="Prompt and completion tokens until 0:00 UTC.")
@click.option("--max-document-bytes", type=int, default=None, help="Of each of its documents.")
@click.option("--metrics", is_flag=True, help="It opens /metrics, which sums up all tenants, and nothing else.")
@state_option()
def add(
    name: str,
    tenant: str | None,
    max_runs: int | None,
    tokens_a_day: int | None,
    max_document_bytes: int | None,
    metrics: bool,
    state: Path | None,
) -> None:
    """Make a key and print it, once: only its hash is kept.

    Keys of one tenant share files and runs; tenants share nothing. From the first key on every caller needs one.
    """
    from rlm_local.server.database import Database
    from rlm_local.server.keys import Keys
    from rlm_local.server.quotas import KeyLimits

    with told_in_options(_OPTION_BY_BOUND):
        limits = KeyLimits(max_runs, tokens_a_day, max_document_bytes)
    if metrics and (tenant is not None or limits != KeyLimits()):
        raise ConfigError("--metrics makes a key that asks nothing; it takes no tenant and no bounds")
    with closing(Database(state or home().server)) as database:
        _, secret = Keys(database).add(name, tenant, limits, watches=metrics)
    write_result(secret, kept="nothing keeps it; revoke it and make another")


@keys.command("list")
@state_option()
def list_keys(state: Path | None) -> None:
    """Show all keys: id, state, day, tenant, name, the bounds that it has, and whether it is for /metrics alone."""
    from rlm_local.server.keys import Keys

    found = recorded(state, lambda database: Keys(database).all()) or []
    if not found:
        click.echo("there are no keys: this machine alone is served, and needs none", err=True)
    write_lines(map(_line, found))


@keys.command()
@click.argument("key_id", metavar="ID", type=identifier)
@state_option()
def revoke(key_id: str, state: Path | None) -> None:
    """End a key. A server stays closed to callers without one, also when the last is revoked."""
    from rlm_local.server.keys import Keys

    def revoked(database: Database) -> bool:
        Keys(database).revoke(key_id)
        return True

    if not recorded(state, revoked):
        raise ConfigError(f"no key has the id {key_id!r}: none was ever made", hint="`rlm-local keys add` makes one")
    click.echo(f"{key_id} is revoked")


def _line(key: Key) -> str:
    made_on = datetime.fromtimestamp(key.created, UTC).date()
    state = "revoked" if key.revoked else "valid  "
    watches = "  metrics only" if key.watches else ""
    return f"{key.id}  {state}  {made_on}  {key.tenant}  {key.name}{_bounds(key.limits)}{watches}"


def _bounds(limits: KeyLimits) -> str:
    told = [f"{name}={bound}" for name, bound in asdict(limits).items() if bound is not None]
    return f"  {' '.join(told)}" if told else ""
