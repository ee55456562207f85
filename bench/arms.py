"""The ways of answering that are compared: each takes a task and returns an Answer."""

from __future__ import annotations

import time
from pathlib import Path

from bench.niah import ANSWER_TOKENS, DOCUMENT_NAME, NiahTask
from rlm_local.errors import EngineRefused
from rlm_local.events import Event
from rlm_local.limits import Limits
from rlm_local.ports import Engine, Recorder
from rlm_local.runtime import Runtime
from rlm_local.trace import TraceWriter
from rlm_local.types import (
    DEFAULT_GRAMMAR,
    Answer,
    Completion,
    Document,
    GrammarMode,
    Message,
    Request,
    Role,
    StopReason,
)

ARMS = ("rlm", "base")


class RlmArm:
    """The whole runtime: the text is a document in the jail, the model sees the question."""

    def __init__(
        self,
        runtime: Runtime,
        limits: Limits,
        traces: Path | None = None,
        *,
        grammar: GrammarMode = DEFAULT_GRAMMAR,
    ) -> None:
        self._runtime = runtime
        self._limits = limits
        self._grammar = grammar
        self._traces = traces  # a folder for one trace a task; None keeps none

    async def answer(self, task: NiahTask) -> Answer:
        request = Request(task.question, (Document(DOCUMENT_NAME, task.text),), self._limits, self._grammar)
        if self._traces is None:
            return await self._runtime.ask(request, Forgetful())
        with TraceWriter(self._traces / f"task-{task.index + 1:03}.jsonl") as recorder:
            return await self._runtime.ask(request, recorder)


class BaseArm:
    """The bare model: the whole text and the question in one completion, refused when the window is too small."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def answer(self, task: NiahTask) -> Answer:
        window = self._engine.info.window_tokens
        # Known from the count that cut the text; the engine would have to tokenize all of it to say the same.
        if task.tokens > window:
            raise EngineRefused(f"the task has {task.tokens} tokens with its answer, the window {window}")
        began = time.monotonic()
        prompt = Message(Role.USER, task.direct_prompt)
        reply = await self._engine.complete(Completion((prompt,), max_tokens=ANSWER_TOKENS))
        return Answer(
            value=reply.text,
            stop=StopReason.FINAL,
            confirmed=False,
            reason="a bare completion; nothing confirms it",
            usage=reply.usage,
            turns=1,
            wall_s=time.monotonic() - began,
        )


class Forgetful(Recorder):
    """Keeps nothing: a run's row in the results is enough unless --out asks for its traces."""

    def write(self, event: Event) -> None:
        pass
