"""Engine, Repl and Recorder that do what a test wrote down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from rlm_local.errors import WindowExceeded
from rlm_local.events import Event
from rlm_local.ports import QueryHandler, RecurseHandler
from rlm_local.types import CellResult, CellStatus, Completion, EngineInfo, Reply, ReplyStop, SubCall, Usage

CHARS_PER_TOKEN = 4  # of the scripted tokenizer


class ScriptedEngine:
    """Replies with the given texts, in order; keeps every completion it was asked for.

    An exception among the replies is raised in its place. Asking for more replies than there are is a
    mistake of the test and raises AssertionError. cached_tokens of a reply are the characters that its
    request shares with the longest earlier one, in tokens: what a perfect prefix cache would reuse.
    """

    def __init__(
        self, replies: Iterable[str | Reply | Exception], *, tokens_each: int = 10, window_tokens: int = 8_192
    ) -> None:
        self._replies = list(replies)
        self._tokens_each = tokens_each
        self.completions: list[Completion] = []
        self.info = EngineInfo(model="scripted", window_tokens=window_tokens, grammar_dialect="lark")

    async def complete(self, completion: Completion) -> Reply:
        if not self._replies:
            raise AssertionError(f"request {len(self.completions) + 1} came, but the script has ended")
        prompt_tokens = await self.count_tokens("".join(message.content for message in completion.messages))
        if prompt_tokens + completion.max_tokens > self.info.window_tokens:
            raise WindowExceeded(
                f"{prompt_tokens} + {completion.max_tokens} tokens, but the window holds {self.info.window_tokens}"
            )
        cached = max((_shared(earlier, completion) for earlier in self.completions), default=0) // CHARS_PER_TOKEN
        self.completions.append(completion)
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Reply):
            return reply
        return Reply(reply, ReplyStop.COMPLETE, Usage(prompt_tokens, cached, self._tokens_each))

    async def count_tokens(self, text: str) -> int:
        return -(-len(text) // CHARS_PER_TOKEN)


class AnsweringEngine:
    """Replies with what a function makes of a request, after giving way to others; counts what it was asked."""

    def __init__(
        self, answer: Callable[[Completion], str], *, tokens_each: int = 10, window_tokens: int = 8_192
    ) -> None:
        self._answer = answer
        self._tokens_each = tokens_each
        self.completions: list[Completion] = []
        self.info = EngineInfo(model="answering", window_tokens=window_tokens, grammar_dialect="lark")

    async def complete(self, completion: Completion) -> Reply:
        self.completions.append(completion)
        await asyncio.sleep(0)
        prompt_tokens = await self.count_tokens("".join(message.content for message in completion.messages))
        return Reply(self._answer(completion), ReplyStop.COMPLETE, Usage(prompt_tokens, 0, self._tokens_each))

    async def count_tokens(self, text: str) -> int:
        return -(-len(text) // CHARS_PER_TOKEN)


class ScriptedRepl:
    """Answers each cell by calling the next function with its code and the query handler.

    A plain str stands for a cell that printed it. Keeps every code it was given.
    """

    def __init__(self, results: Iterable[str | CellResult | Callable[[str], CellResult]] = ()) -> None:
        self._results = list(results)
        self.codes: list[str] = []
        self.closed = False

    async def execute(
        self, code: str, *, wall_s: float, query: QueryHandler, recurse: RecurseHandler | None = None
    ) -> CellResult:
        if not self._results:
            raise AssertionError(f"cell {len(self.codes) + 1} came, but the script has ended: {code!r}")
        self.codes.append(code)
        result = self._results.pop(0)
        if isinstance(result, str):
            return CellResult(CellStatus.OK, result)
        return result if isinstance(result, CellResult) else result(code)

    async def close(self) -> None:
        self.closed = True


class QueryingRepl:
    """A Repl whose every cell asks the given prompts and prints the answers, a line each."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self._prompts = list(prompts)
        self.closed = False

    async def execute(
        self, code: str, *, wall_s: float, query: QueryHandler, recurse: RecurseHandler | None = None
    ) -> CellResult:
        calls: tuple[SubCall, ...] = tuple(await query(self._prompts))
        lines = [call.answer if not call.refused else f"Error: {call.refused}" for call in calls]
        return CellResult(CellStatus.OK, "\n".join(lines) + "\n", subcalls=calls)

    async def close(self) -> None:
        self.closed = True


class KeptEvents:
    """A Recorder that keeps the events in a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)


def _shared(earlier: Completion, later: Completion) -> int:
    one, two = ("\0".join(message.content for message in each.messages) for each in (earlier, later))
    length = min(len(one), len(two))
    return next((index for index in range(length) if one[index] != two[index]), length)
