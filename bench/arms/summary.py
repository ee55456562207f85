"""The summary agent: reads the text piece by piece, keeps notes of bounded length, and answers from its notes."""

from __future__ import annotations

from pathlib import Path

from bench.arms.plain import FRAME_TOKENS, question_after
from bench.arms.spending import LimitReachedError, Spender, calls_path, user, value_of
from bench.tasks.task import Task, joined
from rlm_local.limits import Limits
from rlm_local.ports import Engine
from rlm_local.types import Answer, Sampling, StopReason

NOTES = (
    "You read a long text in parts to answer a question, and keep notes. What is not in your notes is forgotten.\n\n"
    "Question: {question}\n\nYour notes so far:\n{notes}\n\nThe next part:\n{part}\n\n"
    "Write the new notes: all of the old ones and of this part that helps to answer the question, as short as you can."
)
NONE_YET = "(none yet)"
PART_TOKENS = 8_192  # at most: two cores read 32,768 in a quarter of an hour, and no time limit could be kept


class SummaryAgent:
    """Spends what the limits allow. Where that is not enough for the whole text it answers from what it has.

    The next part is expected to take as long as the slowest before it, and the answer as long once more.
    """

    def __init__(
        self, engine: Engine, limits: Limits, sampling: Sampling, traces: Path | None = None, *, typed: bool = False
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._sampling = sampling
        self._traces = traces
        self._typed = typed

    async def answer(self, task: Task) -> Answer:
        spender = Spender(self._engine, self._limits, self._sampling, calls_path(self._traces, task))
        text, read, notes, stop = joined(task), 0, NONE_YET, StopReason.FINAL
        answer_tokens = self._limits.turn_tokens
        slowest_s = 0.0
        kept = 2 * (answer_tokens + self._limits.subcall_tokens) + FRAME_TOKENS  # for the answer, which comes last
        try:
            while read < len(text):
                began_s = spender.elapsed_s
                if began_s + 2 * slowest_s > self._limits.wall_s:
                    stop = StopReason.TIME_LIMIT
                    break
                part = await self._part(spender, task, notes, text, read)
                prompt = NOTES.format(question=task.question, notes=notes, part=part)
                if spender.usage.total_tokens + await spender.count(prompt) + kept > self._limits.max_tokens:
                    stop = StopReason.TOKEN_LIMIT
                    break
                notes = (await spender.complete([user(prompt)], self._limits.subcall_tokens)).text.strip()
                read += len(part)
                slowest_s = max(slowest_s, spender.elapsed_s - began_s)
            schema = task.answer_schema if self._typed else None
            reply = await spender.complete([user(question_after(notes, task.question))], answer_tokens, schema=schema)
        except LimitReachedError as limit:
            return spender.answer(None, self._note(text, read), limit.stop)
        return spender.answer(value_of(reply, schema), self._note(text, read), stop)

    def _note(self, text: str, read: int) -> str:
        return f"notes of {100 * read / max(1, len(text)):.1f} % of {len(text)} characters"

    async def _part(self, spender: Spender, task: Task, notes: str, text: str, start: int) -> str:
        """Return the longest next part, as near as it takes two guesses, that may be read at once beside the notes."""
        frame = await spender.count(NOTES.format(question=task.question, notes=notes, part=""))
        room = min(PART_TOKENS, spender.window_tokens - frame - self._limits.subcall_tokens - FRAME_TOKENS)
        chars = max(200, room * 3)
        while True:
            part = text[start : start + chars]
            tokens = await spender.count(part)
            if tokens <= room or chars <= 200:
                return part
            chars = max(200, int(chars * room / tokens * 0.98))
