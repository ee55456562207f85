"""Sub-calls: what a cell asks of the model while it runs, held to the run's budget by the host."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlm_local.calls import ReplyForm, TypedCalls, form_of
from rlm_local.calls.caller import TEMPLATE_TOKENS, RefusedError, UnreadableError
from rlm_local.controller.budget import Budget
from rlm_local.controller.frames import FRAME, Frame
from rlm_local.controller.record import CallRecord
from rlm_local.errors import EngineRefused, FanOutHeld
from rlm_local.ports import BadCall, CallCancelled, Engine
from rlm_local.prompts import Profile, subcall_messages
from rlm_local.types import (
    CallForm,
    CallKind,
    Completion,
    JsonValue,
    Page,
    Reply,
    Sampling,
    StopReason,
    SubCall,
    Usage,
    page_of,
)

CHARS_PER_TOKEN = 128  # the longest token of Qwen's vocabulary: a run of blanks


def subcall_window(window_tokens: int, subcall_tokens: int, system_tokens: int) -> int:
    """Return how many tokens the prompt of one llm_query may have."""
    return window_tokens - subcall_tokens - system_tokens - TEMPLATE_TOKENS


class SubCalls:
    """Answers llm_query and its relatives for one node. Implements ports.QueryHandler by being called.

    items: the way to the engine of what typed calls ask. prompt_tokens: the longest prompt; prompt_chars: the same in
    the documents' characters. overhead_tokens: what the system message and the template add to each. record: is told
    of each sub-call of llm_query as it ends, in the order in which they end, and of each frame of another call.
    ask_before: a cell that asks more sub-calls ends the run with FanOutHeld before they are asked; None: it may.
    """

    def __init__(
        self,
        engine: Engine,
        items: Engine,
        profile: Profile,
        budget: Budget,
        *,
        prompt_tokens: int,
        prompt_chars: int,
        overhead_tokens: int,
        record: CallRecord,
        ask_before: int | None = None,
    ) -> None:
        self._profile = profile
        self._budget = budget
        self._plan = _Plan(ask_before)
        self._caller = _BudgetedCaller(engine, budget, self._plan)
        self._typed = TypedCalls(_BudgetedCaller(items, budget, self._plan))
        self._prompt_tokens = prompt_tokens
        self._prompt_chars = prompt_chars
        self._overhead_tokens = overhead_tokens
        self._record = record
        self._asked = 0  # in this turn

    def begin_turn(self) -> None:
        """Number the calls that follow from 1."""
        self._asked = self._plan.calls = 0

    def next_number(self) -> int:
        """Return the number of a call in this turn that somebody else answers."""
        self._asked += 1
        return self._asked

    def plan(self, calls: int) -> None:
        """Count sub-calls that this turn's cell is about to ask. Raises FanOutHeld when they are too many."""
        self._plan.add(calls)

    async def __call__(self, texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
        """Answer all texts, side by side, in the order given. Raises BadCall, FanOutHeld."""
        try:
            if form.kind is not CallKind.QUERY:
                return await self._answer_page(texts, form)
            shape = form_of(form.args, reply_tokens=self._caller.reply_tokens)
            if not form.behind:
                self.plan(len(texts) + form.ahead)
            first = self._asked + 1
            self._asked += len(texts)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._one(number, prompt, shape)) for number, prompt in enumerate(texts, first)
                ]
        except ExceptionGroup as failed:  # whose fault it is must be told by type, as everywhere else
            raise failed.exceptions[0] from failed
        return [task.result() for task in tasks]

    async def learn_again(self, pages: Sequence[Page]) -> None:
        """Learn from the frames of a cell that is not run again what later calls go by."""
        for page in pages:
            await self._typed.learn(page.items, CallForm(page.kind, page.args if isinstance(page.args, dict) else {}))

    def limits(self) -> JsonValue:
        """Return what a cell may still spend, as its variable LIMITS tells it."""
        return self._caller.limits() | {"prompt_tokens": self._prompt_tokens, "prompt_characters": self._prompt_chars}

    async def _answer_page(self, texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
        number = self.next_number()
        frame = Frame()
        before = FRAME.set(frame)
        try:
            subcalls = await self._typed(texts, form)
        finally:
            FRAME.reset(before)
        self._record.page(number, page_of(texts, form, subcalls), frame.spent)
        return subcalls

    async def _one(self, number: int, prompt: str, form: ReplyForm) -> SubCall:
        subcall = await self._answer(prompt, form)
        self._record.done(number, subcall)
        return subcall

    async def _answer(self, prompt: str, form: ReplyForm) -> SubCall:
        engine = self._caller.engine
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
            reply = await self._caller.complete(completion, prompt_tokens=tokens + self._overhead_tokens)
            usage = reply.usage
            value = form.read(reply)
        except (RefusedError, EngineRefused) as error:
            return _refused(prompt, str(error))
        except UnreadableError as error:
            return SubCall(prompt, reply.text, usage, refused=str(error))
        return SubCall(prompt, reply.text if form.schema else str(value), usage, typed=bool(form.schema), value=value)


@dataclass(slots=True)
class _Plan:
    """How many sub-calls one cell has asked, or is about to, and how many it may ask without the user's word."""

    most: int | None
    calls: int = 0

    def add(self, calls: int) -> None:
        self.calls += calls
        if self.most is not None and self.calls > self.most:
            raise FanOutHeld(
                f"the next step asks {self.calls:,} sub-calls, and over {self.most:,} it waits for your word"
            )


class _BudgetedCaller:
    """Makes completions within what the run may spend. Implements calls.Caller."""

    def __init__(self, engine: Engine, budget: Budget, plan: _Plan) -> None:
        self.engine = engine
        self._budget = budget
        self._plan = plan

    @property
    def reply_tokens(self) -> int:
        return self._budget.limits.subcall_tokens

    def limits(self) -> dict[str, JsonValue]:
        return {
            "calls": max(0, self._budget.remaining_subcalls),
            "tokens": self._budget.left_for_calls(),
            "seconds": int(self._budget.remaining_s),
        }

    def check_many(self, items: int, *, calls: int, prompt_tokens: int) -> None:
        left = max(0, self._budget.remaining_subcalls)
        if calls > left:
            raise BadCall(
                f"{items:,} items need {calls:,} sub-calls, but {left:,} of {self._budget.limits.max_subcalls:,} are "
                "left; take fewer items, or work with code"
            )
        left = self._budget.left_for_calls()
        if calls * prompt_tokens > left:
            raise BadCall(
                f"{items:,} items need {calls:,} sub-calls of at least {prompt_tokens:,} tokens each, the instruction "
                f"included, together {calls * prompt_tokens:,}, but {left:,} of this run are left; take fewer "
                "items or examples"
            )
        wanted = Usage(calls * prompt_tokens, 0, 0)
        if self._budget.cost(wanted) > self._budget.cost_left_for_calls():
            raise BadCall(f"{items:,} items: {self._too_dear(wanted)}; take fewer items")
        self._plan.add(calls)

    async def complete(self, completion: Completion, *, prompt_tokens: int) -> Reply:
        async with self._budget.slot:
            if self._budget.remaining_subcalls <= 0:
                most = self._budget.limits.max_subcalls
                raise RefusedError(f"all {most} sub-calls of this run are used; work with code")
            reserved = self._budget.reserve_call(prompt_tokens, completion.max_tokens)
            if reserved is StopReason.COST_LIMIT:
                raise RefusedError(self._too_dear(Usage(prompt_tokens, 0, completion.max_tokens)))
            if not isinstance(reserved, Usage):
                wanted, left = prompt_tokens + completion.max_tokens, self._budget.left_for_calls()
                if completion.max_tokens > (to_write := self._budget.left_to_write()):
                    raise RefusedError(
                        f"the reply may take {completion.max_tokens} tokens, but only {to_write} of this run are left"
                    )
                raise RefusedError(f"the call may need {wanted} tokens, but only {left} of this run are left")
            return await self._paid(completion, reserved)

    def _too_dear(self, wanted: Usage) -> str:
        price = self._budget.limits.price
        assert price is not None  # without one no cost is bounded
        cost, left = price.told(self._budget.cost(wanted)), price.told(self._budget.cost_left_for_calls())
        return f"the call may cost {cost}, but only {left} of this run are left"

    async def _paid(self, completion: Completion, reserved: Usage) -> Reply:
        used, remembered = Usage(), False
        try:
            reply = await self.engine.complete(replace(completion, depth=completion.depth + 1))
            used, remembered = reply.usage, reply.usage == Usage()
        except CallCancelled as cancelled:
            used = cancelled.usage
            raise asyncio.CancelledError from None  # timeouts know no other kind
        finally:
            self._budget.settle(reserved, used)
            if (frame := FRAME.get()) is not None:
                frame.add(used, remembered=remembered)
        return reply


def _refused(prompt: str, why: str) -> SubCall:
    return SubCall(prompt, "", Usage(), refused=why)
