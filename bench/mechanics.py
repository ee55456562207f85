"""`python -m bench mechanics`: OOLONG-like tasks without a model, in a real jail, labelled by gold or nearly so.

A scripted root runs each task's own program; the sub-model is the table of gold labels, of which a share is made wrong.
What a run answers has to be just what these labels come to: whatever differs is a bug of ours and no model's. The score
against gold is what a runtime without bugs gives for a labeller of that accuracy.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from bench.arms.rlm import Forgetful
from bench.tasks.scoring import mean
from bench.tasks.task import Task
from rlm_local.controller import Ports, run_node
from rlm_local.documents import cite, join
from rlm_local.jail import JailPool, JailSession
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.testing import AnsweringEngine
from rlm_local.types import Completion, GrammarMode, JsonValue, Reply, ReplyStop, Sampling, Usage

LIMITS = Limits(max_subcalls=10**7, max_tokens=10**12, wall_s=86_400, cell_s=3_600, cell_cpu_s=3_600)
SURE = -100.0  # the log-probability of all labels but the one said


@dataclass(frozen=True, slots=True)
class Run:
    """One task, gone through by the runtime."""

    kind: str
    lines: int
    said: JsonValue
    expected: JsonValue  # by the labels that were given
    score: float
    seconds: float
    requests: int  # to the engine

    @property
    def is_exact(self) -> bool:
        return self.said == self.expected


@dataclass(frozen=True, slots=True)
class Mechanics:
    family: str
    tokens: int
    accuracy: float
    seed: int
    runs: tuple[Run, ...]

    @property
    def score(self) -> float:
        return mean(run.score for run in self.runs)

    def as_object(self) -> dict[str, object]:
        return asdict(self) | {"exact": sum(run.is_exact for run in self.runs), "score": self.score}


def labels_of(task: Task, accuracy: float, seed: int) -> dict[str, str]:
    """Return a label for each item: its own for that share of them, for the others another of the task's."""
    draw = random.Random(f"mechanics {task.family} {task.index} {seed}")
    names = sorted(set(task.labels.values()))
    return {
        text: draw.choice([name for name in names if name != label] or names) if draw.random() >= accuracy else label
        for text, label in task.labels.items()
    }


async def run_mechanics(task: Task, labels: Mapping[str, str], jails: JailPool | None = None) -> Run:
    """Run a task with a sub-model that labels as `labels` says. The task has to have a program."""
    if task.solve is None:
        raise AssertionError(f"{task.family} has no program to run")
    profile = load_profile("large")
    opening = 2 + len(profile.worked)  # messages of the first request

    def answer(completion: Completion) -> str | Reply:
        if completion.choices:
            label = labels.get(completion.messages[-1].content, completion.choices[0])
            logprobs = tuple(0.0 if choice == label else SURE for choice in completion.choices)
            return Reply(label, ReplyStop.COMPLETE, Usage(1, 0, 1), logprobs=logprobs)
        if len(completion.messages) == opening:
            return f"```repl\n{task.program}\n```"
        return "FINAL_VAR(result)"

    engine = AnsweringEngine(answer, window_tokens=1_000_000)
    request = task.request(LIMITS, GrammarMode.OFF, typed=False)
    corpus = join(request.documents)
    began = time.monotonic()
    source = jails.open if jails else None
    async with await JailSession.start(corpus, LIMITS, notes={"question": request.question}, jails=source) as repl:
        answered = await run_node(
            request,
            corpus,
            Ports(engine, repl, Forgetful()),
            profile,
            sampling=Sampling(),
            cite=partial(cite, corpus=corpus, question=request.question),
        )
    return Run(
        task.kind,
        int(str(task.facts["lines"])),
        answered.value,
        task.solve(labels),
        task.score(answered.value),
        round(time.monotonic() - began, 2),
        engine.count,
    )


async def measure_mechanics(
    tasks: Sequence[Task], tokens: int, accuracy: float, seed: int, say: Callable[[str], None]
) -> Mechanics:
    """Run tasks of one family one after another."""
    runs: list[Run] = []
    async with JailPool(1, runs=len(tasks)) as jails:
        for task in tasks:
            run = await run_mechanics(task, labels_of(task, accuracy, seed), jails)
            say(f"{run.kind}: {'exact' if run.is_exact else 'WRONG'}, score {run.score:.2f}, {run.seconds} s")
            runs.append(run)
    return Mechanics(tasks[0].family, tokens, accuracy, seed, tuple(runs))
