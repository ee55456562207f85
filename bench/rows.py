"""What is kept of each task, and how a task becomes a row."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from bench.tasks.scoring import as_text
from bench.tasks.task import Task
from rlm_local.errors import ConfigError, EngineRefused, RlmError
from rlm_local.types import Answer, Citation, JsonValue, StopReason, Usage

SCORED_RIGHT = 1 - 1e-9
# Ends of a run that used its budget up.
SPENT = (StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT, StopReason.TIME_LIMIT, StopReason.COST_LIMIT)


class Labelled(Protocol):
    """How many of the last task's items were labelled on the way to its answer."""

    @property
    def of(self) -> int: ...

    @property
    def right(self) -> int: ...


@runtime_checkable
class Labels(Protocol):
    """An arm that knows it."""

    @property
    def labelled(self) -> Labelled: ...


class Arm(Protocol):
    """A way of answering."""

    async def answer(self, task: Task) -> Answer:
        """Answer one task. Raises EngineRefused when it is too long for this way, other RlmErrors as they are."""
        ...


class Outcome(StrEnum):
    RIGHT = "right"  # all points
    PARTLY = "partly"  # some of them
    WRONG = "wrong"
    REFUSED = "refused"  # the arm cannot take a task of this length; scored 0
    FAILED = "failed"  # an error of ours; scored 0 and counted apart


@dataclass(frozen=True, slots=True)
class Row:
    number: int  # 1-based
    kind: str
    question: str
    gold: str
    document_bytes: int  # UTF-8
    sha256: str  # of question, documents and gold: what two runs have to share to be compared
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)  # points of answers that need no understanding
    outcome: Outcome = Outcome.FAILED
    score: float = 0.0
    answer: str = ""
    wall_s: float = 0.0
    stop: StopReason | None = None  # None when there is no answer
    confirmed: bool = False
    turns: int = 0
    subcalls: int = 0
    usage: Usage = Usage()
    labelled: int = 0  # items whose gold label is known that a sub-model labelled
    labelled_right: int = 0
    detail: str = ""  # why it was refused, failed or not confirmed
    citations: int = 0
    verified: int = 0  # of them, those that stand in the task's own copy of the document, where they say

    @property
    def is_answered(self) -> bool:
        """Whether it came to an answer of any kind: completion, apart from accuracy."""
        return self.outcome not in (Outcome.REFUSED, Outcome.FAILED) and self.answer != ""

    @property
    def is_failure(self) -> bool:
        """Whether the run ended badly, right or wrong: by an error of ours, or unconfirmed with budget left."""
        return self.outcome is Outcome.FAILED or (not self.confirmed and self.stop not in SPENT)


def row_object(row: Row) -> dict[str, Any]:
    """Return a row as JSON."""
    return asdict(row)


def read_row(said: str) -> Row:
    """Return the row that was written as JSON. Raises ConfigError for what is none."""
    try:
        found = json.loads(said)
        stop = found["stop"]
        return Row(
            **found
            | {
                "outcome": Outcome(found["outcome"]),
                "stop": None if stop is None else StopReason(stop),
                "usage": Usage(**found["usage"]),
            }
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"a kept row cannot be read: {type(error).__name__}: {error}") from error


async def run_tasks(tasks: Iterable[Task], arm: Arm, tell: Callable[[Row], None]) -> None:
    """Run the tasks in order and tell of each as it ends, so that an interrupted run has what was done.

    Raises ConfigError at once, because every further task would fail of it too; other errors become rows.
    """
    for task in tasks:
        tell(await run_task(task, arm))


async def run_task(task: Task, arm: Arm) -> Row:
    blank = Row(
        number=task.index + 1,
        kind=task.kind,
        question=task.question,
        gold=as_text(task.gold),
        document_bytes=task.document_bytes,
        sha256=task.sha256,
        facts=dict(task.facts),
        floors={name: task.score(answer) for name, answer in task.floors.items()},
    )
    began = time.monotonic()
    try:
        answer = await arm.answer(task)
    except ConfigError:
        raise
    except EngineRefused as error:
        return replace(blank, outcome=Outcome.REFUSED, detail=str(error), wall_s=time.monotonic() - began)
    except RlmError as error:
        detail = f"{type(error).__name__}: {error}"
        return replace(blank, outcome=Outcome.FAILED, detail=detail, wall_s=time.monotonic() - began)
    points = task.score(answer.value)
    labelled = arm.labelled if isinstance(arm, Labels) else None
    return replace(
        blank,
        outcome=Outcome.RIGHT if points >= SCORED_RIGHT else Outcome.PARTLY if points > 0 else Outcome.WRONG,
        score=points,
        answer="" if answer.value is None else answer.text,
        wall_s=time.monotonic() - began,
        stop=answer.stop,
        confirmed=answer.confirmed,
        turns=answer.turns,
        subcalls=answer.subcalls,
        usage=answer.usage,
        labelled=labelled.of if labelled else 0,
        labelled_right=labelled.right if labelled else 0,
        detail=answer.reason,
        citations=len(answer.citations),
        verified=sum(stands(citation, task) for citation in answer.citations),
    )


def stands(citation: Citation, task: Task) -> bool:
    """Return whether a quote stands in the task's document, at its characters and on its line."""
    text = str(next((one.text for one in task.documents if one.name == citation.document), ""))
    on_line = text.count("\n", 0, citation.start) + 1
    return text[citation.start : citation.end] == citation.quote and citation.line == on_line
