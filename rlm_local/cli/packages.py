"""`--jail-packages`: what a model's code may import beside the standard library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from rlm_local.jail import Packages, find_packages

_Command = TypeVar("_Command", bound=Callable[..., Any])


def jail_packages_option(command: _Command) -> _Command:
    """Add the option; the command is given `packages`. Raises ConfigError for one that is not installed."""
    return click.option(
        "--jail-packages",
        "packages",
        metavar="NAME,...",
        default="",
        callback=_found,
        help="Installed packages that code in the jail may import, read-only, with what they require.",
    )(command)


def _found(context: click.Context, option: click.Parameter, value: str) -> Packages:
    return find_packages([name.strip() for name in value.split(",") if name.strip()])
