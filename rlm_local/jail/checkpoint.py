"""What it takes to bring a session back in a fresh jail: its cells and the replies that they got, and no object of it.

The cells are run again, their sub-calls answered from the record. Dictionaries, `random` and the order of sets are the
same each time, so the variables are; what a cell took from the clock is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rlm_local.errors import ConfigError
from rlm_local.limits import Limits
from rlm_local.types import CallKind, CellResult, CellStatus, Failure, JsonValue, Page, SubCall, Usage

_FORMAT = 2
_Kind = TypeVar("_Kind", bound=JsonValue)


@dataclass(frozen=True, slots=True)
class PastCell:
    """A cell that ran and whose jail lived on, and what it takes to run it again without an engine."""

    number: int  # the name that its functions have in tracebacks
    code: str
    wall_s: float
    subcalls: tuple[SubCall, ...]
    status: CellStatus
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    pages: tuple[Page, ...] = ()

    @property
    def can_replay(self) -> bool:
        """A cell that raised can: what it had set before is set again. One that was stopped by a limit would
        cost that limit again, and stop at another place."""
        return self.status in (CellStatus.OK, CellStatus.RAISED)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A session as a record. It holds for the same documents, notes, limits and version only."""

    cells: tuple[PastCell, ...]
    count: int  # cells that have run in all: those that took their jail with them are not among `cells`
    gone: tuple[int, ...] = ()  # cells whose variables are lost, and that the model was not told of yet

    @classmethod
    def of_results(cls, results: Sequence[tuple[str, CellResult]], limits: Limits) -> Checkpoint:
        """Return the record of cells and what they came to, as a trace has them; results with sub-calls and pages."""
        cells = tuple(
            PastCell(number, code, limits.cell_s, result.subcalls, result.status, _facts_of(result), result.pages)
            for number, (code, result) in enumerate(results, start=1)
            if result.status is not CellStatus.KILLED  # the model was told then that its variables are gone
        )
        return cls(cells, len(results))

    def as_object(self) -> dict[str, JsonValue]:
        """Return the record as JSON. Usage is left out: nothing is charged again."""
        return {
            "format": _FORMAT,
            "count": self.count,
            "gone": list(self.gone),
            "cells": [
                {
                    "number": cell.number,
                    "code": cell.code,
                    "wall_s": cell.wall_s,
                    "status": cell.status.value,
                    "facts": dict(cell.facts),
                    "subcalls": [
                        [call.prompt, call.answer, call.refused, call.typed, call.value] for call in cell.subcalls
                    ],
                    "pages": [_page_object(page) for page in cell.pages],
                }
                for cell in self.cells
            ],
        }

    @classmethod
    def from_object(cls, told: Mapping[str, JsonValue]) -> Checkpoint:
        """Return the record that as_object() made this of. Raises ConfigError for anything else."""
        if told.get("format") != _FORMAT:
            raise ConfigError(f"a checkpoint of format {told.get('format')!r}, but this build reads {_FORMAT}")
        try:
            cells = tuple(_cell(cell) for cell in _typed(told["cells"], list))
            gone = tuple(_typed(number, int) for number in _typed(told["gone"], list))
            checkpoint = cls(cells, _typed(told["count"], int), gone)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a checkpoint: {error}") from error
        numbers = [cell.number for cell in cells]
        if numbers != sorted(set(numbers)) or not all(1 <= number <= checkpoint.count for number in numbers):
            raise ConfigError(f"not a checkpoint: cells {numbers} of {checkpoint.count}")
        return checkpoint


def _facts_of(result: CellResult) -> Mapping[str, JsonValue]:
    return result.facts if isinstance(result.facts, dict) else {}


def _cell(told: JsonValue) -> PastCell:
    fields = _typed(told, dict)
    return PastCell(
        _typed(fields["number"], int),
        _typed(fields["code"], str),
        _number(fields["wall_s"]),
        tuple(_subcall(call) for call in _typed(fields["subcalls"], list)),
        CellStatus(_typed(fields["status"], str)),
        _typed(fields["facts"], dict),
        tuple(_page(page) for page in _typed(fields["pages"], list)),
    )


def _subcall(told: JsonValue) -> SubCall:
    *texts, is_typed, value = _typed(told, list)
    prompt, answer, refused = (_typed(text, str) for text in texts)
    if not isinstance(is_typed, bool):
        raise TypeError(f"{is_typed!r:.80} is no bool")
    return SubCall(prompt, answer, Usage(), refused, is_typed, value)


def _page_object(page: Page) -> JsonValue:
    failures: list[JsonValue] = [[failure.item, failure.why] for failure in page.failures]
    return [page.kind.value, page.args, list(page.items), list(page.values), failures]


def _page(told: JsonValue) -> Page:
    kind, args, items, values, failures = _typed(told, list)
    failed = [_typed(failure, list) for failure in _typed(failures, list)]
    return Page(
        CallKind(_typed(kind, str)),
        args,
        tuple(_typed(item, str) for item in _typed(items, list)),
        tuple(_typed(values, list)),
        tuple(Failure(_typed(item, int), _typed(why, str)) for item, why in failed),
        Usage(),
    )


def _typed(value: JsonValue, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r:.80} is no {kind.__name__}")
    return value


def _number(value: JsonValue) -> float:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else _typed(value, float)
