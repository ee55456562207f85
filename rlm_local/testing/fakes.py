"""Engine, Repl and Recorder that do what a test wrote down."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from rlm_local.errors import WindowExceeded
from rlm_local.events import Event
from rlm_local.ports import NO_FACTS, QueryHandler, RecurseHandler
from rlm_local.types import (
    CallForm,
    CellResult,
    CellStatus,
    Completion,
    EngineInfo,
    JsonObject,
    JsonValue,
    Message,
    Reply,
    ReplyStop,
    Role,
    SubCall,
    Usage,
)

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
        self.bodies: list[JsonObject] = []  # of chat() and chat_stream()
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

    async def chat(self, body: JsonObject) -> JsonObject:
        """Answer with the next reply, in OpenAI's shape."""
        self.bodies.append(body)
        reply = await self.complete(_completion(body))
        usage: JsonObject = {
            "prompt_tokens": reply.usage.prompt_tokens,
            "completion_tokens": reply.usage.completion_tokens,
            "total_tokens": reply.usage.total_tokens,
            "prompt_tokens_details": {"cached_tokens": reply.usage.cached_tokens},
        }
        choice: JsonObject = {"index": 0, "message": {"role": "assistant", "content": reply.text}}
        choice["finish_reason"] = "length" if reply.stop is ReplyStop.LENGTH else "stop"
        return {"id": "scripted", "object": "chat.completion", "created": 0, "choices": [choice], "usage": usage}

    @asynccontextmanager
    async def chat_stream(self, body: JsonObject) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Stream the next reply, a word an event."""
        self.bodies.append(body)
        reply = await self.complete(_completion(body))

        async def events() -> AsyncIterator[bytes]:
            for word in reply.text.split(" "):
                choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
                chunk = {"id": "scripted", "object": "chat.completion.chunk", "choices": [choice]}
                yield f"data: {json.dumps(chunk)}\n\n".encode()
            yield b"data: [DONE]\n\n"

        yield events()


class AnsweringEngine:
    """Replies to each completion with what a function says of it: a text, a whole Reply, or an exception to raise.

    A text that answers a completion with choices comes with log-probabilities: 0 for itself, -10 for the others.
    Counts completions and keeps the last thousand of them; 100,000 are no burden. most_at_once: of those under way.
    """

    def __init__(
        self,
        answer: Callable[[Completion], str | Reply | Exception],
        *,
        tokens_each: int = 1,
        window_tokens: int = 8_192,
        can_close: bool = False,
    ) -> None:
        self._answer = answer
        self._tokens_each = tokens_each
        self.count = 0
        self.most_at_once = 0
        self._under_way = 0
        self.completions: deque[Completion] = deque(maxlen=1_000)
        self.info = EngineInfo("answering", window_tokens, "lark", can_close)

    @property
    def last(self) -> Completion | None:
        return self.completions[-1] if self.completions else None

    async def complete(self, completion: Completion) -> Reply:
        self.count += 1
        self.completions.append(completion)
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        await asyncio.sleep(0)  # others may come in meanwhile, as with an engine of its own process
        self._under_way -= 1
        said = self._answer(completion)
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Reply):
            return said
        tokens = sum([await self.count_tokens(message.content) for message in completion.messages])
        if tokens + completion.max_tokens > self.info.window_tokens:
            raise WindowExceeded(
                f"{tokens} + {completion.max_tokens} tokens, but the window is {self.info.window_tokens}"
            )
        logprobs = tuple(0.0 if choice == said else -10.0 for choice in completion.choices)
        return Reply(said, ReplyStop.COMPLETE, Usage(tokens, 0, self._tokens_each), logprobs=logprobs)

    async def count_tokens(self, text: str) -> int:
        return -(-len(text) // CHARS_PER_TOKEN)


class ScriptedRepl:
    """Answers each cell by calling the next function with its code and the query handler.

    A plain str stands for a cell that printed it. Keeps every code and all facts it was given.
    """

    def __init__(self, results: Iterable[str | CellResult | Callable[[str], CellResult]] = ()) -> None:
        self._results = list(results)
        self.codes: list[str] = []
        self.facts: list[Mapping[str, JsonValue]] = []
        self.closed = False

    async def execute(
        self,
        code: str,
        *,
        wall_s: float,
        query: QueryHandler,
        recurse: RecurseHandler | None = None,
        facts: Mapping[str, JsonValue] = NO_FACTS,
    ) -> CellResult:
        if not self._results:
            raise AssertionError(f"cell {len(self.codes) + 1} came, but the script has ended: {code!r}")
        self.codes.append(code)
        self.facts.append(facts)
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
        self,
        code: str,
        *,
        wall_s: float,
        query: QueryHandler,
        recurse: RecurseHandler | None = None,
        facts: Mapping[str, JsonValue] = NO_FACTS,
    ) -> CellResult:
        calls: tuple[SubCall, ...] = tuple(await query(self._prompts, CallForm()))
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


def _completion(body: JsonObject) -> Completion:
    messages, scope = body["messages"], body.get("cache_salt", "")
    assert isinstance(messages, list)
    assert isinstance(scope, str)
    said = [message for message in messages if isinstance(message, dict)]
    turns = tuple(Message(Role(str(message["role"])), str(message["content"])) for message in said)
    return Completion(turns, max_tokens=1, scope=scope)


def _shared(earlier: Completion, later: Completion) -> int:
    one, two = ("\0".join(message.content for message in each.messages) for each in (earlier, later))
    length = min(len(one), len(two))
    return next((index for index in range(length) if one[index] != two[index]), length)
