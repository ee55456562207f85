"""Reads a TOML file whose every key must be known: a typing mistake is an error, never a silent default."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

from rlm_local.errors import ConfigError

_T = TypeVar("_T")


def read_table(path: Path) -> StrictTable:
    """Return the top table of this file. Raises ConfigError when it cannot be read or is not TOML."""
    try:
        return StrictTable(path, "", tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except (RecursionError, ValueError) as error:  # of Python's own bounds: some hundred levels, 4,300 digits
        raise ConfigError(f"{path}: holds a number of thousands of digits, or as many levels") from error


class StrictTable:
    """One TOML table being read: each key once, and at the end none may be left over."""

    def __init__(self, path: Path, where: str, raw: Mapping[str, object]) -> None:
        self.path = path
        self._where = where  # "llama.files[0]."; empty at the top
        self._raw = dict(raw)
        self._known: list[str] = []

    def fail(self, key: str, problem: str) -> ConfigError:
        return ConfigError(f"{self.path}: {self._where}{key} {problem}")

    def _take(self, key: str, kind: type[_T], *, required: bool) -> _T | None:
        self._known.append(key)
        if key not in self._raw:
            if required:
                raise self.fail(key, "is missing")
            return None
        value = self._raw.pop(key)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.fail(key, f"is {value!r}, but must be of type {kind.__name__}")
        return value

    def text(self, key: str, form: re.Pattern[str] | None = None) -> str:
        return cast("str", self.optional_text(key, form, required=True))

    def optional_text(self, key: str, form: re.Pattern[str] | None = None, *, required: bool = False) -> str | None:
        value = self._take(key, str, required=required)
        if value is None:
            return None
        if not value.strip():
            raise self.fail(key, "is empty")
        if form and not form.fullmatch(value):
            raise self.fail(key, f"is {value!r}, but must match {form.pattern}")
        return value

    def one_of(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self.optional_text(key, required=default is None) or default
        if value is None or value not in allowed:
            raise self.fail(key, f"is {value!r}, but must be one of: {', '.join(allowed)}")
        return value

    def texts(self, key: str, form: re.Pattern[str]) -> list[str]:
        return cast("list[str]", self.optional_texts(key, form, required=True))

    def optional_texts(self, key: str, form: re.Pattern[str], *, required: bool = False) -> list[str] | None:
        values = self._take(key, list, required=required)
        for value in cast("list[object]", values or []):
            if not isinstance(value, str) or not form.fullmatch(value):
                raise self.fail(key, f"holds {value!r}, but each must match {form.pattern}")
        return cast("list[str] | None", values)

    def count(self, key: str) -> int:
        return cast("int", self.optional_count(key, required=True))

    def optional_count(self, key: str, *, required: bool = False) -> int | None:
        value = self._take(key, int, required=required)
        if value is not None and value < 1:
            raise self.fail(key, f"is {value}, but must be at least 1")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = self._number(key, low, high, required=False)
        return default if value is None else value

    def needed_number(self, key: str, low: float, high: float) -> float:
        return cast("float", self._number(key, low, high, required=True))

    def _number(self, key: str, low: float, high: float, *, required: bool) -> float | None:
        value = self._take(key, float, required=required)
        if value is None:
            return None
        if not low <= value <= high:
            raise self.fail(key, f"is {value}, but must be within {low}..{high}")
        return value

    def table(self, key: str) -> StrictTable:
        return StrictTable(
            self.path, f"{self._where}{key}.", cast("dict[str, object]", self._take(key, dict, required=True))
        )

    def optional_table(self, key: str) -> StrictTable | None:
        raw = self._take(key, dict, required=False)
        return None if raw is None else StrictTable(self.path, f"{self._where}{key}.", cast("dict[str, object]", raw))

    def tables(self, key: str, *, required: bool) -> list[StrictTable]:
        rows = cast("list[object]", self._take(key, list, required=required) or [])
        for row in rows:
            if not isinstance(row, dict):
                raise self.fail(key, f"holds {row!r}, but each must be a table")
        return [
            StrictTable(self.path, f"{self._where}{key}[{at}].", cast("dict[str, object]", row))
            for at, row in enumerate(rows)
        ]

    def finish(self) -> None:
        """Raise ConfigError for the first key that nobody asked for."""
        for key in self._raw:
            near = difflib.get_close_matches(key, self._known, n=1, cutoff=0.0)[0]
            raise self.fail(key, f"is no field here; the nearest is {near!r}")
