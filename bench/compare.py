"""`python -m bench compare A B` and `report DIR...`: finished runs side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.output import RESULT
from bench.paired import Comparison, compare
from rlm_local.errors import ConfigError

SAME = ("task", "tokens", "seed")  # what two runs must have in common to be compared


@dataclass(frozen=True, slots=True)
class Finished:
    """A run as its folder has it."""

    name: str  # of the folder
    result: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.result['arm']}, {self.result['model']}"

    @property
    def key(self) -> tuple[str, int, int]:
        return self.result["task"], self.result["tokens"], self.result["seed"]

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = self.result["summary"]
        return found

    def scores(self) -> dict[str, float]:
        """Return the score of each task by its digest."""
        return {row["sha256"]: row["score"] for row in self.result["rows"]}


def read_run(folder: Path) -> Finished:
    """Return a run. Raises ConfigError when the folder has none, or one of before rows had digests."""
    path = folder / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", hint="name a folder of `python -m bench run --out`"
        ) from error
    if "arm" not in result or any("sha256" not in row for row in result.get("rows", [{}])):
        raise ConfigError(f"{path} is no result of `python -m bench run`, or one of before its tasks had digests")
    return Finished(folder.name, result)


def compare_runs(first: Finished, second: Finished) -> Comparison:
    """Compare two runs task by task. Raises ConfigError when they were not asked the same."""
    for name in SAME:
        if first.result[name] != second.result[name]:
            raise ConfigError(
                f"{first.name} has {name} {first.result[name]}, {second.name} has {second.result[name]}; only runs of "
                "the same tasks can be compared"
            )
    early, late = first.scores(), second.scores()
    shared = [digest for digest in early if digest in late]
    if not shared:
        raise ConfigError(f"{first.name} and {second.name} have no task in common; was their data the same?")
    return compare([early[digest] for digest in shared], [late[digest] for digest in shared])


def comparison_line(first: Finished, second: Finished, found: Comparison) -> str:
    return (
        f"{second.title} against {first.title}: {found.second:.3f} against {found.first:.3f} on {found.tasks} tasks; "
        f"difference {found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f} at 95 %, bootstrap), better on "
        f"{found.better}, worse on {found.worse}, p = {found.p:.3f} ({found.test})"
    )
