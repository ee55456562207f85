"""Files that an option or an argument names, `-` for standard input, as bytes and as JSON."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rlm_local.errors import ConfigError

NO_NAME = "''"  # what a message shows of an empty name


def read_bytes(file: str, most: int) -> bytes:
    """Return what is in a file, or on standard input. Raises ConfigError for more than `most` bytes."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(most + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(most + 1)
    except OSError as error:
        raise ConfigError(f"{file or NO_NAME} cannot be read: {error.strerror}") from error
    if len(data) > most:
        raise ConfigError(f"{file} has more than {most} bytes, the most that is read here")
    return data


def read_json(file: str, most: int) -> Any:
    """Return the value that a file, or standard input, says in JSON. Raises ConfigError, as read_bytes and json_of."""
    return json_of(read_bytes(file, most), file)


def json_of(data: bytes, told: str) -> Any:
    """Return the value that JSON says, in which no object has a key twice; `told` is where it stands.

    Raises ConfigError.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            raise ConfigError(f"{told} has the key {twice!r} twice in an object", hint="name each once")
        return found

    try:
        return json.loads(data, object_pairs_hook=once)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{told} is not JSON: {error}") from error
    except (ValueError, RecursionError) as error:  # Python's own bounds: 4,300 digits, some hundred levels
        raise ConfigError(f"{told} holds a number of thousands of digits, or as many levels") from error


def refuse_stdin_twice(*files: str | None) -> None:
    """Raise ConfigError where more than one of these is standard input."""
    if files.count("-") > 1:
        raise ConfigError("standard input was given twice", hint="name a file for one of them")
