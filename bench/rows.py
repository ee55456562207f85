"""What is kept of each task, and how tasks are run one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from bench.niah import NiahTask, score
from rlm_local.errors import ConfigError, EngineRefused, RlmError
from rlm_local.types import Answer, StopReason, Usage


class Arm(Protocol):
    """A way of answering."""

    async def answer(self, task: NiahTask) -> Answer:
        """Answer one task. Raises EngineRefused when it is too long for this way, other RlmErrors as they are."""
        ...


class Outcome(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    REFUSED = "refused"  # the arm cannot take a task of this length; scored 0
    FAILED = "failed"  # an error of ours; scored 0 and counted apart


@dataclass(frozen=True, slots=True)
class Row:
    number: int  # 1-based
    key: str
    gold: str
    depth_percent: int
    tokens: int
    document_bytes: int  # UTF-8
    outcome: Outcome = Outcome.FAILED
    score: float = 0.0
    answer: str = ""
    wall_s: float = 0.0
    stop: StopReason | None = None  # None when there is no answer
    confirmed: bool = False
    turns: int = 0
    subcalls: int = 0
    usage: Usage = Usage()
    detail: str = ""  # why it was refused, failed or not confirmed


async def run_tasks(tasks: Iterable[NiahTask], arm: Arm, tell: Callable[[Row], None]) -> None:
    """Run the tasks in order and tell of each as it ends, so that an interrupted run has what was done.

    Raises ConfigError at once, because every further task would fail of it too; other errors become rows.
    """
    for task in tasks:
        tell(await run_task(task, arm))


async def run_task(task: NiahTask, arm: Arm) -> Row:
    blank = Row(
        number=task.index + 1,
        key=task.needle.key,
        gold=task.gold,
        depth_percent=task.needle.depth_percent,
        tokens=task.tokens,
        document_bytes=len(task.text.encode()),
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
    text = "" if answer.value is None else answer.text
    points = score(text, task.gold)
    return replace(
        blank,
        outcome=Outcome.RIGHT if points else Outcome.WRONG,
        score=points,
        answer=text,
        wall_s=time.monotonic() - began,
        stop=answer.stop,
        confirmed=answer.confirmed,
        turns=answer.turns,
        subcalls=answer.subcalls,
        usage=answer.usage,
        detail=answer.reason,
    )
