"""The engine as the simpler arms use it: within the limits of a run, and with every request kept."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.tasks.task import Task
from rlm_local.limits import Limits
from rlm_local.ports import CallCancelled, Engine
from rlm_local.types import (
    Answer,
    Completion,
    JsonValue,
    Message,
    Reply,
    ReplyStop,
    Role,
    Sampling,
    StopReason,
    Usage,
)


class LimitReachedError(Exception):
    """The run may not go on."""

    def __init__(self, stop: StopReason) -> None:
        super().__init__(stop.value)
        self.stop = stop


class Spender:
    """One task's use of the engine. calls: a file that gets every request and reply, a JSON object a line."""

    def __init__(self, engine: Engine, limits: Limits, sampling: Sampling, calls: Path | None = None) -> None:
        self._engine = engine
        self._limits = limits
        self._sampling = sampling
        self._calls = calls
        self._began = time.monotonic()
        self._reserved = 0  # tokens of requests under way
        self.usage = Usage()
        self.turns = 0
        if calls is not None:
            calls.parent.mkdir(parents=True, exist_ok=True)
            calls.unlink(missing_ok=True)  # of a task that was cut off

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    @property
    def window_tokens(self) -> int:
        return self._engine.info.window_tokens

    async def count(self, text: str) -> int:
        return await self._engine.count_tokens(text)

    async def complete(self, messages: Sequence[Message], max_tokens: int, *, schema: JsonValue = None) -> Reply:
        """Return a reply. Raises LimitReachedError when tokens or seconds are spent, and EngineRefused as it comes."""
        needed = sum([await self.count(message.content) for message in messages]) + max_tokens
        if self.usage.total_tokens + self._reserved + needed > self._limits.max_tokens:
            raise LimitReachedError(StopReason.TOKEN_LIMIT)
        left_s = self._limits.wall_s - self.elapsed_s
        if left_s <= 0:
            raise LimitReachedError(StopReason.TIME_LIMIT)
        completion = Completion(
            tuple(messages),
            max_tokens,
            self._sampling,
            json_schema="" if schema is None else json.dumps(schema),
        )
        self._reserved += needed
        try:
            reply = await asyncio.wait_for(self._charged(completion), left_s)
        except TimeoutError:
            raise LimitReachedError(StopReason.TIME_LIMIT) from None
        finally:
            self._reserved -= needed
        self.usage += reply.usage
        self.turns += 1
        self._keep(messages, reply)
        return reply

    async def _charged(self, completion: Completion) -> Reply:
        """Complete; of a request that is cancelled, take what the engine says that it has cost until then."""
        try:
            return await self._engine.complete(completion)
        except CallCancelled as cut:
            self.usage += cut.usage
            raise asyncio.CancelledError from None

    def answer(self, value: JsonValue, reason: str, stop: StopReason = StopReason.FINAL) -> Answer:
        return Answer(
            value=value,
            stop=stop,
            confirmed=False,
            reason=reason,
            usage=self.usage,
            turns=self.turns,
            wall_s=self.elapsed_s,
        )

    def _keep(self, messages: Sequence[Message], reply: Reply) -> None:
        if self._calls is None:
            return
        told: dict[str, Any] = {
            "messages": [{"role": message.role.value, "content": message.content} for message in messages],
            "reply": reply.text,
            "stop": reply.stop.value,
            "usage": [reply.usage.prompt_tokens, reply.usage.cached_tokens, reply.usage.completion_tokens],
        }
        with self._calls.open("a", encoding="utf-8") as file:
            file.write(json.dumps(told, ensure_ascii=False) + "\n")


def calls_path(traces: Path | None, task: Task) -> Path | None:
    return None if traces is None else traces / f"task-{task.index + 1:03}.calls.jsonl"


def user(text: str) -> Message:
    return Message(Role.USER, text)


def value_of(reply: Reply, schema: JsonValue) -> JsonValue:
    """Return what a reply answers: the value where it was held to a schema, else its text."""
    if schema is None or reply.stop is ReplyStop.LENGTH:
        return reply.text.strip()
    value: JsonValue = json.loads(reply.text)
    return value
