"""The messages of a run: what was said so far, what of the documents was seen, and how long the next request is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator

from rlm_local.calls.caller import MESSAGE_TOKENS, TEMPLATE_TOKENS
from rlm_local.controller.finish import printed_by
from rlm_local.controller.observe import observe
from rlm_local.controller.recurse import subcall_window
from rlm_local.errors import ConfigError
from rlm_local.ports import Engine
from rlm_local.prompts import Profile, Situation, observation_message, opening_messages, shown_head
from rlm_local.types import Corpus, Malformed, Message, Page, Request, Role, Turn

NOTE_TOKENS = TEMPLATE_TOKENS + 100  # what stands around an output in the message that shows it
READ_CHARS = 1 << 20  # of a cell's typed calls, kept for the search for citations
SAMPLE_CHARS = 4_000  # of the documents, to tell characters from tokens


async def situate(engine: Engine, profile: Profile, request: Request, corpus: Corpus) -> Situation:
    """Return the true numbers of a run: what a sub-call holds is counted by the engine, not guessed."""
    limits = request.limits
    system_tokens = await engine.count_tokens(profile.subcall)
    window = subcall_window(engine.info.window_tokens, limits.subcall_tokens, system_tokens)
    sample = corpus.context[:SAMPLE_CHARS]
    chars_per_token = len(sample) / max(1, await engine.count_tokens(sample))
    return Situation(
        question=request.question,
        document_names=tuple(document.name for document in corpus.documents),
        context_chars=len(corpus.context),
        subcall_tokens=window,
        subcall_chars=int(window * chars_per_token) // 1000 * 1000,
        turns=limits.max_turns,
        head=shown_head(profile, corpus.documents),
        answer_schema="" if request.answer_schema is None else json.dumps(request.answer_schema, ensure_ascii=False),
    )


def _items_read(page: Page) -> list[str]:
    """Return the items of a frame that a sub-model has read; those of llm_reduce are one text."""
    failed = {failure.item for failure in page.failures} if len(page.values) == len(page.items) else set()
    return [item for at, item in enumerate(page.items) if at not in failed]


def _within(chars: int, texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts that fit so many characters together."""
    for text in texts:
        if len(text) <= chars:
            chars -= len(text)
            yield text


class Conversation:
    """Messages that only grow.

    printed: what the root was shown of the documents, without echoes of its own words; an answer's support.
    read: that, and what sub-models read; where an answer's citations are looked for.
    """

    def __init__(self, engine: Engine, profile: Profile) -> None:
        self._engine = engine
        self._profile = profile
        self._question = ""
        self._output_chars = profile.max_output_chars
        self.messages: tuple[Message, ...] = ()
        self.prompt_tokens = 0  # of the next request: the last one's true count, and an estimate of what was added
        self.output_tokens = 0  # the longest output that an observation will show
        self.printed: list[str] = []
        self.read: list[str] = []
        self.shown: list[str] = []  # outputs as the root was shown them, and the documents' beginning
        self.given: list[str] = []  # prompts of sub-calls

    async def open(self, situation: Situation) -> None:
        """Say the rules, the worked turns and the question. No output will take over a quarter of the window."""
        self._question = situation.question
        chars_per_token = situation.subcall_chars / max(1, situation.subcall_tokens) or 1.0
        wanted = math.ceil(self._profile.max_output_chars / chars_per_token)
        self.output_tokens = min(wanted, self._engine.info.window_tokens // 4)
        self._output_chars = min(self._profile.max_output_chars, int(self.output_tokens * chars_per_token))
        self.messages = opening_messages(self._profile, situation)
        if situation.head:
            for heard in (self.printed, self.read, self.shown):
                heard.append(situation.head)
        counts = [await self._engine.count_tokens(message.content) for message in self.messages]
        self.prompt_tokens = sum(counts) + TEMPLATE_TOKENS + MESSAGE_TOKENS * len(counts)

    def check_room(self, *, turn_tokens: int, answer_tokens: int, max_tokens: int) -> None:
        """Raise ConfigError for a run that could not take its first turn."""
        replies, window = turn_tokens + answer_tokens, self._engine.info.window_tokens
        if self.prompt_tokens + replies > window:
            raise ConfigError(
                f"the question is too long: with the rules it takes {self.prompt_tokens:,} tokens, and a turn and an "
                f"answer {replies:,} more, but the window holds {window:,}",
                hint="shorten it, put its long part into a document, or raise --window",
            )
        first_turn = self.prompt_tokens + turn_tokens
        if first_turn > max_tokens:
            raise ConfigError(f"--max-tokens is {max_tokens:,}, but its first turn may take {first_turn:,}; raise it")

    async def hear(self, turn: Turn) -> str:
        """Take in what became of a turn, and return its output as the model will read it.

        Until say() is called the output is in no message, but its tokens are counted.
        """
        if isinstance(turn.action, Malformed):
            output = turn.action.reason
        elif turn.result is not None:
            output = observe(turn.result, max_chars=self._output_chars)
            self.printed.append(printed_by(turn.result, self._question))
            asked = [call.prompt for call in turn.result.subcalls if not call.refused and not call.node]
            self.shown.append(output)
            self.given += asked
            self.given += [item for page in turn.result.pages for item in _items_read(page)]
            self.read += asked
            self.read += _within(READ_CHARS, (item for page in turn.result.pages for item in page.items))
            self.read.append(self.printed[-1])
        else:
            output = "(the answer was not accepted)"
        added = await self._engine.count_tokens(output)
        self.prompt_tokens = turn.usage.prompt_tokens + turn.usage.completion_tokens + added + NOTE_TOKENS
        return output

    def say(self, turn: Turn, output: str, note: str) -> str:
        """Add a turn and what is told of it; return the text of the message."""
        message = observation_message(self._profile, output, note)
        self.messages += (Message(Role.ASSISTANT, turn.text), message)
        return message.content
