"""What is wrong with a setting, told in the name of the option that a person gave."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rlm_local.errors import ConfigError

OF_LIMITS = {
    "max_turns": "--max-turns",
    "wall_s": "--max-seconds",
    "max_tokens": "--max-tokens",
    "max_subcalls": "--max-subcalls",
    "max_prompt_tokens": "--max-prompt-tokens",
    "max_completion_tokens": "--max-completion-tokens",
    "max_cost": "--max-cost",
    "max_depth": "--max-depth",
    "max_concurrency": "--max-concurrency",
}


@contextmanager
def told_in_options(option_by_field: Mapping[str, str] = OF_LIMITS) -> Iterator[None]:
    """Have every ConfigError of the block name options in place of the fields that they set."""
    try:
        yield
    except ConfigError as error:
        field = re.compile(rf"\b({'|'.join(option_by_field)})\b")
        raise ConfigError(field.sub(lambda name: option_by_field[name[0]], str(error)), hint=error.hint) from error
