"""One model and the work in front of it: a checked ask becomes jobs, and jobs become replies."""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from rlm_local.engine.llama.binding import Context, Model
from rlm_local.engine.llama.choices import ChoiceTree
from rlm_local.engine.llama.closing import Closers
from rlm_local.engine.llama.interrupt import Cancel
from rlm_local.engine.llama.loop import DecodeLoop
from rlm_local.engine.llama.mask import Dialect, Grammars
from rlm_local.engine.llama.prefix_tree import PrefixTree
from rlm_local.engine.llama.protocol import Ask
from rlm_local.engine.llama.reply import Generated
from rlm_local.engine.llama.request import Hear, Job, Request
from rlm_local.engine.llama.scheduler import Scheduler
from rlm_local.engine.llama.template import ChatTemplate, encode, public_parts
from rlm_local.errors import EngineError, EngineRefused, WindowExceeded
from rlm_local.types import Usage

SCRATCH = 64  # sequence numbers kept for scoring choices: as many places at a time


class Service:
    """One model, its memory, and the scheduler of requests to it.

    window_tokens: most tokens of one request, prompt and reply together. shelf: see PrefixTree.
    The context's sequences are prefixes that can be told apart, and a few for passing use.
    """

    def __init__(self, model: Model, context: Context, *, name: str, window_tokens: int, shelf: int = 0) -> None:
        if window_tokens > min(model.context_tokens, context.cells):
            raise EngineError(
                f"a window of {window_tokens} tokens was asked for, but {name} takes {model.context_tokens} "
                f"and the memory {context.cells}; ask for less"
            )
        self.name = name
        self.window_tokens = window_tokens
        self.started = int(time.time())
        self._model = model
        self._context = context
        source = model.chat_template
        bos, eos = model.special_text("bos"), model.special_text("eos")
        self._template = ChatTemplate(source, bos=bos, eos=eos) if source else None
        if self._template and (how := self._template.breaks_growth()):
            sys.stderr.write(f"warning: {name}'s chat template makes later turns share less: {how}\n")
        if why := model.unshareable:
            sys.stderr.write(f"warning: {name} computes every prompt anew, because {why}\n")
        self._shares = not model.unshareable
        own = context.sequences - (SCRATCH if self._shares else 0)  # nothing is scored where nothing is shared
        shelf = shelf if context.can_save else 0
        tree = PrefixTree(context, cells=context.cells, sequences=own, reuse=self._shares, shelf=shelf)
        self._scheduler = Scheduler(context, tree, scratch=range(own, context.sequences))
        self._loop = DecodeLoop(self._scheduler)
        # llguidance needs a second for the vocabulary; it runs while the first prompt is computed.
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="grammar")
        tokenizer: Future[Any] = self._helper.submit(model.grammar_tokenizer)
        self._grammars = Grammars(tokenizer.result, ends=model.ends, vocab_size=model.vocab_size)
        self._closers = Closers(tokenizer.result)
        self._running: set[Request] = set()

    def count(self, text: str) -> list[int]:
        """Return the tokens of a text, read as plain text. From any thread."""
        return self._model.tokenize(text, special=False)

    def text_of(self, tokens: list[int]) -> str:
        """Return the text of tokens, control tokens included. Raises EngineRefused for what is no token."""
        for token in tokens:
            if not 0 <= token < self._model.vocab_size:
                raise EngineRefused(f"token {token} is not in the vocabulary of {self._model.vocab_size}")
        return b"".join(self._model.piece(token, special=True) for token in tokens).decode("utf-8", "replace")

    def prepare(self, ask: Ask) -> list[Job]:
        """Tokenize and measure: one job per reply. Raises WindowExceeded before anything is computed.

        From any thread.
        """
        prompt, public = self._encode(ask)
        room = self.window_tokens - len(prompt)
        wanted = ask.max_tokens if ask.max_tokens is not None else max(1, room)
        if wanted > room:
            raise WindowExceeded(
                f"the prompt has {len(prompt)} tokens and the reply may have {wanted}, together "
                f"{len(prompt) + wanted}, but the window is {self.window_tokens}; "
                "shorten the prompt or lower max_tokens"
            )
        return [self._job(ask, i, prompt, wanted, public) for i in range(ask.n)]

    def metrics(self) -> str:
        return self._scheduler.metrics.text()

    async def flush(self, scope: str | None) -> int:
        """Forget what one scope left in memory, or all did; return how many tokens that were."""
        return await asyncio.wrap_future(self._loop.call(lambda: self._scheduler.flush(scope)))

    def start(self, job: Job, on_text: Hear | None = None, *, name: str = "") -> Request:
        """Begin a job; await its reply by `reply`, or stop it by `cancel`. on_text: see Request."""
        request = Request(job, self._model, cancel=Cancel(), on_text=on_text, name=name)
        self._running.add(request)
        self._loop.submit(request)
        return request

    async def reply(self, request: Request) -> Generated:
        """Raises Aborted once the request is cancelled, DeadlinePassed when its deadline was."""
        try:
            return await asyncio.wrap_future(request.result)
        finally:
            self._running.discard(request)

    def cancel(self, request: Request) -> None:
        """End a request within a step. Nothing for one that has ended."""
        if not request.result.done():
            self._loop.cancel(request)

    async def cancel_named(self, name: str) -> Usage:
        """End the requests that were sent under this name; return what they had come to cost."""
        named = [request for request in tuple(self._running) if request.name == name]
        for request in named:
            self.cancel(request)
        # Only when the decode thread has let go of them do their counts stand.
        await asyncio.gather(*(asyncio.wrap_future(request.result) for request in named), return_exceptions=True)
        return sum((request.spent for request in named), Usage())

    def cancel_all(self) -> None:
        for request in tuple(self._running):
            self.cancel(request)

    def close(self) -> None:
        self.cancel_all()
        self._loop.close()
        self._helper.shutdown()
        self._context.close()
        self._model.close()

    def _job(self, ask: Ask, index: int, prompt: list[int], max_tokens: int, public: int) -> Job:
        seed = ask.settings.seed
        settings = ask.settings if seed is None else replace(ask.settings, seed=seed + index)
        choices = self._choices(ask)
        mask = self._grammars.mask(ask.constraint) if ask.constraint and choices is None else None
        return Job(
            prompt,
            max_tokens,
            settings,
            mask,
            choices,
            self._closers.closer(ask.constraint) if ask.constraint and ask.close_at_limit else None,
            stops=ask.stops,
            scope=ask.scope,
            public=public,
            priority=ask.priority,
            depth=ask.depth,
            deadline_s=ask.deadline_s,
            top_logprobs=ask.top_logprobs,
            ignore_ends=ask.ignore_ends,
        )

    def _choices(self, ask: Ask) -> ChoiceTree | None:
        """Return the choices to score; None where there are none, or the memory cannot be shared for it."""
        if ask.constraint is None or ask.constraint.dialect is not Dialect.CHOICE or not self._shares:
            return None
        texts = ask.constraint.choices()
        tree = ChoiceTree(texts, [self.count(text) for text in texts], self._model.ends)
        return tree if tree.longest <= self._context.outputs else None

    def _encode(self, ask: Ask) -> tuple[list[int], int]:
        """Return the tokens of a prompt, and how many of them hold nobody's words."""
        if isinstance(ask.prompt, str):
            tokens = self.count(ask.prompt)
            return (tokens if self._model.bos is None else [self._model.bos, *tokens]), 0
        if self._template is None:
            raise EngineRefused("these weights carry no chat template; use /v1/completions")
        parts = self._template.parts(ask.prompt)
        size = public_parts(parts, ask.public_messages)
        public = encode(parts[:size], self._model.tokenize, bos=self._model.bos) if size else []
        return public + encode(parts[size:], self._model.tokenize, bos=None if size else self._model.bos), len(public)
