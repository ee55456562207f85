"""The folder that a server keeps its records in, as --state names it, and what commands read there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rlm_local.cli.values import Folder
from rlm_local.config import home
from rlm_local.errors import ConfigError

if TYPE_CHECKING:
    from rlm_local.server.database import Database

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


def state_option(told: str = "The server's folder.") -> Callable[[C], C]:
    """Return the option --state; its value is None where it is not given. Raises ConfigError for what is no folder."""
    return click.option("--state", type=Folder(), default=None, help=told)


def recorded(state: Path | None, work: Callable[[Database], T]) -> T | None:
    """Return what `work` finds in a server's records, whether it runs or not; None where no server has been yet.

    state: the folder that --state names, None for the usual one. Makes nothing. Raises ConfigError for a folder that is
    named and has no records.
    """
    from rlm_local.server.database import RECORDS, Database

    folder = home().server if state is None else state
    if not (folder / RECORDS).exists():
        if state is None:
            return None
        raise ConfigError(
            f"{folder} is no folder of a server: it has no {RECORDS}",
            hint="name the folder that `rlm-local serve --state` was given, or leave --state out for the usual one",
        )
    with closing(Database(folder)) as database:
        return work(database)
