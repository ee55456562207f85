"""The whole runtime: the documents are in the jail, the model sees the question."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.tasks.task import Task
from rlm_local.events import Event, PageDone
from rlm_local.limits import Limits
from rlm_local.ports import Recorder
from rlm_local.prompts import Profile
from rlm_local.runtime import Runtime
from rlm_local.trace import TraceWriter
from rlm_local.types import DEFAULT_GRAMMAR, Answer, CallKind, GrammarMode, JsonValue

_INSTANCE = "Instance: "  # before the text of a window's line, in the line as a whole


@dataclass
class Labelled:
    """How many of a task's items were labelled in a run, each counted by the last label that it was given."""

    gold: Mapping[str, str]

    def __post_init__(self) -> None:
        self._said: dict[str, str] = {}

    def hear(self, event: Event) -> None:
        if not isinstance(event, PageDone) or event.page.kind is not CallKind.CLASSIFY:
            return
        for item, value in zip(event.page.items, event.page.values, strict=True):
            text = item if item in self.gold else item.rpartition(_INSTANCE)[2].strip()
            if text in self.gold and value is not None:
                self._said[text] = label_of(value)

    @property
    def of(self) -> int:
        return len(self._said)

    @property
    def right(self) -> int:
        return sum(self.gold[text] == label for text, label in self._said.items())


def label_of(value: JsonValue) -> str:
    """Return the label that a classification gave, with or without its confidence."""
    return str(value["label"]) if isinstance(value, dict) and "label" in value else str(value)


class RlmArm:
    """Runs of rlm_local. `labelled` is of the last one."""

    def __init__(
        self,
        runtime: Runtime,
        limits: Limits,
        traces: Path | None = None,
        *,
        grammar: GrammarMode = DEFAULT_GRAMMAR,
        typed: bool = False,
    ) -> None:
        self._runtime = runtime
        self._limits = limits
        self._grammar = grammar
        self._traces = traces  # a folder for one trace a task; None keeps none
        self._typed = typed
        self.labelled = Labelled({})

    async def answer(self, task: Task) -> Answer:
        self.labelled = Labelled(task.labels)
        request = task.request(self._limits, self._grammar, typed=self._typed)
        if self._traces is None:
            return await self._runtime.ask(request, Listening(self.labelled, Forgetful()))
        path = trace_path(self._traces, task)
        path.unlink(missing_ok=True)  # of a task that was cut off; a trace is never written over
        with TraceWriter(path) as recorder:
            return await self._runtime.ask(request, Listening(self.labelled, recorder))


def trace_path(traces: Path, task: Task) -> Path:
    return traces / f"task-{task.index + 1:03}.jsonl"


class Forgetful(Recorder):
    """Keeps nothing: a run's row in the results is enough unless --out asks for its traces."""

    def write(self, event: Event) -> None:
        pass


class Listening(Recorder):
    """Hands every event on, and lets the labels be counted."""

    def __init__(self, labelled: Labelled, beyond: Recorder) -> None:
        self._labelled = labelled
        self._beyond = beyond

    def write(self, event: Event) -> None:
        self._beyond.write(event)
        self._labelled.hear(event)


def without_subcalls(profile: Profile) -> Profile:
    """Return a profile that never speaks of sub-models: the paper's ablation.

    Lines and sentences that name one are left out, and so are worked runs that use one.
    """
    runs: list[list[int]] = []
    for at, message in enumerate(profile.worked):
        if message.content.startswith("Question:") or not runs:
            runs.append([])
        runs[-1].append(at)
    kept = [at for run in runs if not any(_NAMES.search(profile.worked[at].content) for at in run) for at in run]
    system = "\n".join(line for line in profile.system.split("\n") if not _NAMES.search(line))
    system = system.replace("found = search(question, show=False)", "search(question)")
    changed = replace(
        profile,
        name=f"{profile.name}, no sub-calls",
        system=system,
        question=_SENTENCE.sub("", profile.question),
        worked=tuple(profile.worked[at] for at in kept),
    )
    told = "\n".join([changed.system, changed.question, *(message.content for message in changed.worked)])
    return replace(changed, sha256=hashlib.sha256(told.encode()).hexdigest())


_NAMES = re.compile(r"\br?llm_\w+|\brlm_query\w*|language model reads")
_SENTENCE = re.compile(r"[^.\n]*\bllm_query[^.]*\.\s*")
