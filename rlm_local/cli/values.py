"""What options take, where click's own types let through what cannot be used."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click

from rlm_local.config import check_folder
from rlm_local.errors import ConfigError


class Folder(click.Path):
    """A folder that there is, or that can be made; its value is a Path. Raises ConfigError for anything else."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name = param.opts[0] if param else "the folder"
        if value == "":  # as of a variable that is not set; a Path would take it for the current folder
            raise ConfigError(f"{name} is empty", hint="name a folder, or leave it out")
        check_folder(name, Path(value))
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number within bounds, which NaN is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


def identifier(value: str) -> str:
    """Return an id as a text that can be looked for: what is no UTF-8 becomes U+FFFD, which no id has."""
    return os.fsencode(value).decode("utf-8", "replace")
