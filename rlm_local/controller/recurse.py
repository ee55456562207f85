"""Sub-calls: what a cell asks of the model while it runs, held to the run's budget by the host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rlm_local.controller.budget import Budget
from rlm_local.errors import EngineRefused
from rlm_local.ports import Engine
from rlm_local.prompts import Profile, subcall_messages
from rlm_local.types import Completion, ReplyStop, SubCall, Usage

CHARS_PER_TOKEN = 128  # the longest token of Qwen's vocabulary: a run of blanks
TEMPLATE_TOKENS = 64  # what a chat template adds around the messages of one request; Qwen's adds 13


def subcall_window(window_tokens: int, subcall_tokens: int, system_tokens: int) -> int:
    """Return how many tokens the prompt of one llm_query may have."""
    return window_tokens - subcall_tokens - system_tokens - TEMPLATE_TOKENS


class SubCalls:
    """Answers llm_query for one run. Implements ports.QueryHandler by being called.

    prompt_tokens: the longest prompt. overhead_tokens: what the system message and the template add to each.
    on_done is told of each sub-call as it ends, in the order in which they end.
    leaving_tokens: what sub-calls may not touch, so that the root can still answer; set before each cell.
    """

    def __init__(
        self,
        engine: Engine,
        profile: Profile,
        budget: Budget,
        *,
        prompt_tokens: int,
        overhead_tokens: int,
        on_done: Callable[[SubCall], None],
    ) -> None:
        self._engine = engine
        self._profile = profile
        self._budget = budget
        self._prompt_tokens = prompt_tokens
        self._overhead_tokens = overhead_tokens
        self._on_done = on_done
        self.leaving_tokens = 0

    async def __call__(self, prompts: Sequence[str]) -> list[SubCall]:
        """Answer all prompts, side by side, in the order given."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(prompt)) for prompt in prompts]
        except ExceptionGroup as failed:  # whose fault it is must be told by type, as everywhere else
            raise failed.exceptions[0] from failed
        return [task.result() for task in tasks]

    async def _one(self, prompt: str) -> SubCall:
        subcall = await self._answer(prompt)
        self._on_done(subcall)
        return subcall

    async def _answer(self, prompt: str) -> SubCall:
        limits = self._budget.limits
        if len(prompt) > CHARS_PER_TOKEN * self._prompt_tokens:  # not worth counting: no text is so dense
            return _refused(prompt, f"the prompt has {len(prompt)} characters, far more than one llm_query holds")
        tokens = await self._engine.count_tokens(prompt)
        if tokens > self._prompt_tokens:
            return _refused(
                prompt,
                f"the prompt has {tokens} tokens ({len(prompt)} characters), but one llm_query holds "
                f"{self._prompt_tokens}; split it into {-(-tokens // self._prompt_tokens)} or more pieces",
            )
        if not self._budget.remaining_subcalls:
            return _refused(prompt, f"all {limits.max_subcalls} sub-calls of this run are used; work with code")
        reserved = tokens + self._overhead_tokens + limits.subcall_tokens
        if not self._budget.reserve(reserved, leaving=self.leaving_tokens):
            left = max(0, self._budget.remaining_tokens - self.leaving_tokens)
            return _refused(prompt, f"the call may need {reserved} tokens, but only {left} of this run are left")
        self._budget.subcalls += 1
        used = Usage()
        try:
            reply = await self._engine.complete(
                Completion(subcall_messages(self._profile, prompt), max_tokens=limits.subcall_tokens)
            )
            used = reply.usage
        except EngineRefused as error:
            return _refused(prompt, str(error))
        finally:
            self._budget.settle(reserved, used)
        answer = reply.text.strip()
        if reply.stop is ReplyStop.LENGTH:
            answer += f" ... (cut after {limits.subcall_tokens} tokens; ask for less at once)"
        return SubCall(prompt, answer, reply.usage)


def _refused(prompt: str, why: str) -> SubCall:
    return SubCall(prompt, "", Usage(), refused=why)
