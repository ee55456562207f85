"""CodeAct with BM25: a model that acts by Python in a jail and asks a retriever; the text itself is not in its Python.

As in the paper's baseline the text stands in the prompt where it fits. Where it does not, the retriever is the only
way to it. There are no sub-models: what the Python calls `bm25` is answered by the host, over the channel on which
other runs ask for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench.arms.bm25 import Index, pieces
from bench.arms.plain import FRAME_TOKENS
from bench.arms.spending import LimitReachedError, Spender, calls_path, user
from bench.tasks.task import Task, count_task, joined
from rlm_local.documents import join
from rlm_local.jail import JailSession
from rlm_local.limits import Limits
from rlm_local.ports import Engine
from rlm_local.types import (
    Answer,
    CallForm,
    CellResult,
    Document,
    Message,
    Role,
    Sampling,
    StopReason,
    SubCall,
    Usage,
)

OUTPUT_CHARS = 4_000  # of what a cell printed that the model reads
MOST_PASSAGES = 20
SYSTEM = (
    "You answer questions about documents. You act by writing Python in a block\n```python\n...\n```\n"
    "One block a turn; it is run, and you read what it printed. Variables stay. bm25(query, k=5) returns the k "
    "passages of the documents that match the words of the query best, as a list of str. When you know the answer, "
    "reply with one line and nothing else:\nANSWER: the answer"
)
PRELUDE = """
def bm25(query, k=5):
    return llm_query(f"{int(k)}\\n{query}").split("\\n\\n---\\n\\n")
"""
_BLOCK = re.compile(r"```(?:python|repl|py)?\s*\n(.*?)(?:```|\Z)", re.DOTALL)
_ANSWER = re.compile(r"^\s*\**ANSWER:\**\s*(.+)", re.DOTALL | re.MULTILINE)


class CodeAct:
    """Turns of code and what it printed, up to max_turns, within the window and the limits."""

    def __init__(self, engine: Engine, limits: Limits, sampling: Sampling, traces: Path | None = None) -> None:
        self._engine = engine
        self._limits = limits
        self._sampling = sampling
        self._traces = traces

    async def answer(self, task: Task) -> Answer:
        spender = Spender(self._engine, self._limits, self._sampling, calls_path(self._traces, task))
        retriever = Retriever(Index(list(pieces(task.documents))))
        nothing = join((Document("none", ""),))
        async with await JailSession.start(nothing, self._limits) as repl:
            await repl.execute(PRELUDE, wall_s=self._limits.cell_s, query=retriever)
            try:
                return await self._turns(task, spender, repl, retriever)
            except LimitReachedError as limit:
                return spender.answer(None, self._note(retriever), limit.stop)

    async def _turns(self, task: Task, spender: Spender, repl: JailSession, retriever: Retriever) -> Answer:
        opening, shown = await self._opening(task, spender)
        messages = [Message(Role.SYSTEM, SYSTEM), user(opening)]
        note = f"{shown}; "
        for turn in range(self._limits.max_turns):
            if turn == self._limits.max_turns - 1:
                messages[-1] = user(f"{messages[-1].content}\n\nThis is your last turn: reply with ANSWER: ...")
            used = sum([await spender.count(message.content) for message in messages])
            if used + self._limits.turn_tokens + FRAME_TOKENS > spender.window_tokens:
                return spender.answer(None, note + self._note(retriever), StopReason.WINDOW_LIMIT)
            said = (await spender.complete(messages, self._limits.turn_tokens)).text
            block = _BLOCK.search(said)
            if block is None:
                found = _ANSWER.search(said)
                value = found.group(1) if found else said
                return spender.answer(value.strip(), note + self._note(retriever))
            result = await repl.execute(block.group(1), wall_s=self._limits.cell_s, query=retriever)
            # What stands behind the block is the model's guess at what the block will print.
            messages += [Message(Role.ASSISTANT, said[: block.end()]), user(observation(result))]
        return spender.answer(None, note + self._note(retriever), StopReason.TURN_LIMIT)

    async def _opening(self, task: Task, spender: Spender) -> tuple[str, str]:
        half = spender.window_tokens // 2
        if await count_task(task, spender.count) <= half:
            return f"{joined(task)}\n\nQuestion: {task.question}", "the text in the prompt"
        chars = sum(len(document.text) for document in task.documents)
        told = f"There are {len(task.documents)} documents with {chars:,} characters, too many to show."
        return f"{told}\n\nQuestion: {task.question}", "the text by bm25 only"

    def _note(self, retriever: Retriever) -> str:
        return f"{retriever.asked} questions to bm25"


class Retriever:
    """Answers what the Python in the jail asks. Implements ports.QueryHandler by being called."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.asked = 0

    async def __call__(self, texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
        return [self._answered(text) for text in texts]

    def _answered(self, text: str) -> SubCall:
        self.asked += 1
        number, _, query = text.partition("\n")
        if not number.isdigit():
            return SubCall(text, "", Usage(), refused="there is no language model here; ask bm25(query, k=5)")
        found = self._index.best(query, min(int(number), MOST_PASSAGES))
        return SubCall(text, "\n\n---\n\n".join(piece.shown for piece in found), Usage())


def observation(result: CellResult) -> str:
    """Return what the model reads of a cell."""
    printed = result.stdout + result.stdout_tail
    if len(printed) > OUTPUT_CHARS:
        printed = f"{printed[:OUTPUT_CHARS]}\n[{len(printed) - OUTPUT_CHARS} more characters are not shown]"
    said = "\n".join(part for part in (printed, result.error) if part.strip())
    return f"Output:\n{said or '(nothing was printed)'}"
