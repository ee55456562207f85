"""`--jail-packages`: what a model's code may import beside the standard library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rlm_local.errors import ConfigError
from rlm_local.jail import Packages, find_packages

_Command = TypeVar("_Command", bound=Callable[..., Any])


def jail_packages_option(command: _Command) -> _Command:
    """Add the option; the command is given `packages`. ConfigError for one that is not installed, and for none."""
    return click.option(
        "--jail-packages",
        "packages",
        metavar="NAME,...",
        default="",
        callback=_found,
        help="Installed packages that code in the jail may import, read-only, with what they require.",
    )(command)


def _found(context: click.Context, option: click.Parameter, value: str) -> Packages:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names and context.get_parameter_source(str(option.name)) is not ParameterSource.DEFAULT:
        raise ConfigError(
            f"--jail-packages is {value!r}, but must be names with commas between",
            hint="leave it out, and code has the standard library",
        )
    return find_packages(names)
