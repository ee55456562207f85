"""Sub-calls: what a cell asks of the model while it runs, held to the run's budget by the host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rlm_local.controller.budget import Budget
from rlm_local.errors import EngineRefused
from rlm_local.ports import CallCancelled, Engine
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
    on_done is told of each sub-call as it ends, in the order in which they end, with its number in its turn.
    """

    def __init__(
        self,
        engine: Engine,
        profile: Profile,
        budget: Budget,
        *,
        prompt_tokens: int,
        overhead_tokens: int,
        on_done: Callable[[int, SubCall], None],
    ) -> None:
        self._engine = engine
        self._profile = profile
        self._budget = budget
        self._prompt_tokens = prompt_tokens
        self._overhead_tokens = overhead_tokens
        self._on_done = on_done
        self._asked = 0  # in this turn

    def begin_turn(self) -> None:
        """Number the calls that follow from 1."""
        self._asked = 0

    def next_number(self) -> int:
        """Return the number of a call in this turn that somebody else answers."""
        self._asked += 1
        return self._asked

    async def __call__(self, prompts: Sequence[str]) -> list[SubCall]:
        """Answer all prompts, side by side, in the order given."""
        first = self._asked + 1
        self._asked += len(prompts)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(number, prompt)) for number, prompt in enumerate(prompts, first)]
        except ExceptionGroup as failed:  # whose fault it is must be told by type, as everywhere else
            raise failed.exceptions[0] from failed
        return [task.result() for task in tasks]

    async def _one(self, number: int, prompt: str) -> SubCall:
        subcall = await self._answer(prompt)
        self._on_done(number, subcall)
        return subcall

    async def _answer(self, prompt: str) -> SubCall:
        if len(prompt) > CHARS_PER_TOKEN * self._prompt_tokens:  # not worth counting: no text is so dense
            return _refused(prompt, f"the prompt has {len(prompt)} characters, far more than one llm_query holds")
        tokens = await self._engine.count_tokens(prompt)
        if tokens > self._prompt_tokens:
            return _refused(
                prompt,
                f"the prompt has {tokens} tokens ({len(prompt)} characters), but one llm_query holds "
                f"{self._prompt_tokens}; split it into {-(-tokens // self._prompt_tokens)} or more pieces",
            )
        async with self._budget.slot:
            return await self._complete(prompt, tokens + self._overhead_tokens)

    async def _complete(self, prompt: str, prompt_tokens: int) -> SubCall:
        limits = self._budget.limits
        if self._budget.remaining_subcalls <= 0:
            return _refused(prompt, f"all {limits.max_subcalls} sub-calls of this run are used; work with code")
        reserved = self._budget.reserve_call(prompt_tokens, limits.subcall_tokens)
        if reserved is None:
            left = self._budget.left_for_calls()
            return _refused(
                prompt, f"the call may need {prompt_tokens + limits.subcall_tokens} tokens, but only {left} are left"
            )
        used = Usage()
        try:
            reply = await self._engine.complete(
                Completion(subcall_messages(self._profile, prompt), max_tokens=limits.subcall_tokens, depth=1)
            )
            used = reply.usage
        except CallCancelled as cancelled:
            used = cancelled.usage
            raise asyncio.CancelledError from None  # timeouts know no other kind
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
