"""One completion: over the whole text, over its ends, over what BM25 finds, or over nothing."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from string import Template

from bench.arms.bm25 import Index, pieces
from bench.arms.spending import LimitReachedError, Spender, calls_path, user, value_of
from bench.tasks.task import Task, count_task, joined
from rlm_local.errors import EngineRefused
from rlm_local.limits import Limits
from rlm_local.ports import Engine
from rlm_local.types import Answer, Sampling

FRAME_TOKENS = 64  # a chat template's own, around one message
PASSAGES = 20  # that BM25 hands over, of 1,000 characters each
CUT = "\n\n[... the middle of the text is left out here ...]\n\n"


class Reading(StrEnum):
    """What the one completion gets to see."""

    WHOLE = "direct"  # refused above the window
    ENDS = "direct-cut"  # the middle is cut out where the window is too small, as the paper's baseline does
    FOUND = "rag"
    NOTHING = "closed"  # the control: what the model knows without any document


class PlainArm:
    """Asks once. An answer is as long as a root's turn may be."""

    def __init__(
        self,
        reading: Reading,
        engine: Engine,
        limits: Limits,
        sampling: Sampling,
        traces: Path | None = None,
        *,
        typed: bool = False,
    ) -> None:
        self._reading = reading
        self._engine = engine
        self._limits = limits
        self._sampling = sampling
        self._traces = traces
        self._typed = typed

    async def answer(self, task: Task) -> Answer:
        spender = Spender(self._engine, self._limits, self._sampling, calls_path(self._traces, task))
        room = spender.window_tokens - self._limits.turn_tokens - FRAME_TOKENS
        prompt, note = await self._prompt(task, room)
        schema = task.answer_schema if self._typed else None
        try:
            reply = await spender.complete([user(prompt)], self._limits.turn_tokens, schema=schema)
        except LimitReachedError as limit:
            return spender.answer(None, note, limit.stop)
        return spender.answer(value_of(reply, schema), note)

    async def _prompt(self, task: Task, room: int) -> tuple[str, str]:
        """Return the prompt, and what a reader of the result must know of it."""
        match self._reading:
            case Reading.NOTHING:
                return task.question, "the question alone, no document"
            case Reading.FOUND:
                return await self._found(task, room)
            case Reading.WHOLE:
                text = joined(task)
                tokens = await self._tokens(task, text, room)
                if tokens > room:
                    raise EngineRefused(
                        f"the task has {tokens} tokens, and {self._limits.turn_tokens} are for the answer, but the "
                        f"window holds {self._engine.info.window_tokens}"
                    )
                return direct_prompt(task, text), "a bare completion; nothing confirms it"
            case Reading.ENDS:
                return await self._ends(task, room)

    async def _tokens(self, task: Task, text: str, room: int) -> int:
        """Return the tokens of the whole prompt, estimated where that is enough to refuse it."""
        estimate = await count_task(task, self._engine.count_tokens)
        return estimate if estimate > 2 * room else await self._engine.count_tokens(direct_prompt(task, text))

    async def _ends(self, task: Task, room: int) -> tuple[str, str]:
        text = joined(task)
        tokens = await self._tokens(task, text, room)
        if tokens <= room:
            return direct_prompt(task, text), "the whole text; nothing was cut"
        kept = int(len(text) * room / tokens)
        while True:
            half = kept // 2
            prompt = direct_prompt(task, text[:half] + CUT + text[len(text) - half :])
            counted = await self._engine.count_tokens(prompt)
            if counted <= room or kept < 2:
                share = 100 * 2 * half / len(text)
                return prompt, f"the middle was cut out: {share:.1f} % of {len(text)} characters were read"
            kept = min(int(kept * room / counted), kept - 2)

    async def _found(self, task: Task, room: int) -> tuple[str, str]:
        found = Index(list(pieces(task.documents))).best(task.question, PASSAGES)
        order = {document.name: at for at, document in enumerate(task.documents)}
        for number in range(len(found), 0, -1):
            best = sorted(found[:number], key=lambda piece: (order[piece.document], piece.start))
            prompt = question_after("\n\n".join(piece.shown for piece in best), task.question)
            if await self._engine.count_tokens(prompt) <= room:
                return prompt, f"{number} passages that BM25 found"
        return question_after("(nothing was found)", task.question), "BM25 found no passage that fits"


def direct_prompt(task: Task, text: str) -> str:
    """Return the text and the question in one prompt, in the family's own form where it has one."""
    return Template(task.prompt).safe_substitute(text=text) if task.prompt else question_after(text, task.question)


def question_after(text: str, question: str) -> str:
    return f"{text}\n\nQuestion: {question}\nAnswer with nothing but the answer."
