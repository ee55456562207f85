"""Sub-calls: what a cell asks of the model while it runs, held to the run's budget by the host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rlm_local.calls import ReplyForm, TypedCalls, form_of
from rlm_local.calls.caller import TEMPLATE_TOKENS, RefusedError, UnreadableError
from rlm_local.controller.budget import Budget
from rlm_local.errors import EngineRefused
from rlm_local.ports import BadCall, Engine
from rlm_local.prompts import Profile, subcall_messages
from rlm_local.types import CallForm, CallKind, Completion, JsonValue, Page, Reply, Sampling, SubCall, Usage, page_of

CHARS_PER_TOKEN = 128  # the longest token of Qwen's vocabulary: a run of blanks
READ_CHARS = 1 << 20  # of typed calls' items, kept for the search for citations


def subcall_window(window_tokens: int, subcall_tokens: int, system_tokens: int) -> int:
    """Return how many tokens the prompt of one llm_query may have."""
    return window_tokens - subcall_tokens - system_tokens - TEMPLATE_TOKENS


class SubCalls:
    """Answers llm_query and its relatives for one run. Implements ports.QueryHandler by being called.

    prompt_tokens: the longest prompt; prompt_chars: the same in the documents' characters. overhead_tokens: what the
    system message and the template add to each. on_done is told of each sub-call of llm_query as it ends, in the order
    in which they end; on_page of the items of one frame of another call. leaving_tokens: what sub-calls may not touch,
    so that the root can still answer; set before each cell.
    """

    def __init__(
        self,
        engine: Engine,
        profile: Profile,
        budget: Budget,
        *,
        prompt_tokens: int,
        prompt_chars: int,
        overhead_tokens: int,
        on_done: Callable[[SubCall], None],
        on_page: Callable[[Page], None],
    ) -> None:
        self._profile = profile
        self._budget = _BudgetedCaller(engine, budget)
        self._typed = TypedCalls(self._budget)
        self._prompt_tokens = prompt_tokens
        self._prompt_chars = prompt_chars
        self._overhead_tokens = overhead_tokens
        self._on_done = on_done
        self._on_page = on_page
        self._read: list[str] = []
        self._read_chars = 0

    @property
    def leaving_tokens(self) -> int:
        return self._budget.leaving_tokens

    @leaving_tokens.setter
    def leaving_tokens(self, tokens: int) -> None:
        self._budget.leaving_tokens = tokens

    async def __call__(self, texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
        """Answer all texts, side by side, in the order given. Raises BadCall."""
        try:
            if form.kind is not CallKind.QUERY:
                return await self._answer_page(texts, form)
            shape = form_of(form.args, reply_tokens=self._budget.reply_tokens)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(prompt, shape)) for prompt in texts]
        except ExceptionGroup as failed:  # whose fault it is must be told by type, as everywhere else
            raise failed.exceptions[0] from failed
        return [task.result() for task in tasks]

    def limits(self) -> JsonValue:
        """Return what a cell may still spend, as its variable LIMITS tells it."""
        return self._budget.limits() | {"prompt_tokens": self._prompt_tokens, "prompt_characters": self._prompt_chars}

    def take_read(self) -> list[str]:
        """Return the items that typed calls have read since this was last asked, as far as they are kept."""
        read, self._read, self._read_chars = self._read, [], 0
        return read

    async def _answer_page(self, texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
        subcalls = await self._typed(texts, form)
        for text in texts:
            if self._read_chars + len(text) <= READ_CHARS:
                self._read.append(text)
                self._read_chars += len(text)
        self._on_page(page_of(texts, form, subcalls))
        return subcalls

    async def _one(self, prompt: str, form: ReplyForm) -> SubCall:
        subcall = await self._answer(prompt, form)
        self._on_done(subcall)
        return subcall

    async def _answer(self, prompt: str, form: ReplyForm) -> SubCall:
        engine = self._budget.engine
        if len(prompt) > CHARS_PER_TOKEN * self._prompt_tokens:  # not worth counting: no text is so dense
            return _refused(prompt, f"the prompt has {len(prompt)} characters, far more than one llm_query holds")
        told = form.told(prompt)
        tokens = await engine.count_tokens(told)
        if tokens > self._prompt_tokens:
            return _refused(
                prompt,
                f"the prompt has {tokens} tokens ({len(prompt)} characters), but one llm_query holds "
                f"{self._prompt_tokens}; split it into {-(-tokens // self._prompt_tokens)} or more pieces",
            )
        completion = form.completion(
            subcall_messages(self._profile, told), can_close=engine.info.can_close, sampling=Sampling()
        )
        usage = Usage()
        try:
            reply = await self._budget.complete(completion, prompt_tokens=tokens + self._overhead_tokens)
            usage = reply.usage
            value = form.read(reply)
        except (RefusedError, EngineRefused) as error:
            return _refused(prompt, str(error))
        except UnreadableError as error:
            return SubCall(prompt, reply.text, usage, refused=str(error))
        return SubCall(prompt, reply.text if form.schema else str(value), usage, typed=bool(form.schema), value=value)


class _BudgetedCaller:
    """Makes completions within what the run may spend. Implements calls.Caller."""

    def __init__(self, engine: Engine, budget: Budget) -> None:
        self.engine = engine
        self._budget = budget
        self.leaving_tokens = 0

    @property
    def reply_tokens(self) -> int:
        return self._budget.limits.subcall_tokens

    @property
    def _left(self) -> int:
        return max(0, self._budget.remaining_tokens - self.leaving_tokens)

    def limits(self) -> dict[str, JsonValue]:
        return {
            "calls": self._budget.remaining_subcalls,
            "tokens": self._left,
            "seconds": int(self._budget.remaining_s),
        }

    def check_many(self, items: int, *, calls: int, prompt_tokens: int) -> None:
        left = self._budget.remaining_subcalls
        if calls > left:
            raise BadCall(
                f"{items:,} items need {calls:,} sub-calls, but {left:,} of {self._budget.limits.max_subcalls:,} are "
                "left; take fewer items, or work with code"
            )
        if calls * prompt_tokens > self._left:
            raise BadCall(
                f"{items:,} items need {calls:,} sub-calls of at least {prompt_tokens:,} tokens each, the instruction "
                f"included, together {calls * prompt_tokens:,}, but {self._left:,} of this run are left; take fewer "
                "items or examples"
            )

    async def complete(self, completion: Completion, *, prompt_tokens: int) -> Reply:
        limits = self._budget.limits
        if not self._budget.remaining_subcalls:
            raise RefusedError(f"all {limits.max_subcalls} sub-calls of this run are used; work with code")
        reserved = prompt_tokens + completion.max_tokens
        if not self._budget.reserve(reserved, leaving=self.leaving_tokens):
            raise RefusedError(f"the call may need {reserved} tokens, but only {self._left} of this run are left")
        self._budget.subcalls += 1
        used = Usage()
        try:
            reply = await self.engine.complete(completion)
            used = reply.usage
        finally:
            self._budget.settle(reserved, used)
        return reply


def _refused(prompt: str, why: str) -> SubCall:
    return SubCall(prompt, "", Usage(), refused=why)
