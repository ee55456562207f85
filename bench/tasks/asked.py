"""Families that ask several kinds of questions: which kind a task is of, and the task that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.tasks.task import Scorer, Task
from rlm_local.types import Document, JsonValue

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Asked:
    question: str
    gold: JsonValue
    scorer: Scorer
    schema: JsonValue
    floor: JsonValue


def task_of_kinds(
    family: str,
    index: int,
    documents: Sequence[Document],
    kinds: Mapping[str, Kind],
    ask: Callable[[Kind], Asked | None],
    *,
    counted: str,
) -> Task | None:
    """Return a task whose kind goes by its index, or is the next one that these documents answer; None for none.

    counted: what the documents are, as the row of a result names their number.
    """
    names = list(kinds)
    for turn in range(len(names)):
        kind = names[(index + turn) % len(names)]
        if (asked := ask(kinds[kind])) is not None:
            return Task(
                family=family,
                index=index,
                kind=kind,
                documents=tuple(documents),
                question=asked.question,
                gold=asked.gold,
                scorer=asked.scorer,
                answer_schema=asked.schema,
                floors={"always the same": asked.floor},
                facts={counted: len(documents)},
            )
    return None
