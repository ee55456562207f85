"""vLLM as an engine: what its API says otherwise than ours, made the same."""

from __future__ import annotations

import asyncio
import hmac
import random
import re
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from rlm_local.engine.client import HttpEngine
from rlm_local.engine.vllm.scoring import ChoiceTree, Tokens, winner
from rlm_local.errors import EngineRefused, EngineUnavailable
from rlm_local.types import Completion, EngineInfo, JsonObject, Message, Reply, ReplyStop, Role, Usage

_REMEMBERED_CHOICES = 4_096
# vLLM reads a control token's name in a document as the token itself, which would end a turn and begin another. Every
# current family names its tokens so; a sign of no width in the name makes it text.
_CONTROL = re.compile(r"<(?=\|[^\s<>|]{1,64}\|>)")
_NO_WIDTH = "\u200b"


class VllmClient(HttpEngine):
    """A client of one vLLM server, or of a router in front of several.

    Every request carries a cache salt, made here of its scope and a secret of this process: nobody who shares the
    server can reach our prefixes, and no two scopes each other's. A caller's own salt is never passed on.
    """

    def __init__(self, client: httpx.AsyncClient, info: EngineInfo) -> None:
        super().__init__(client, info)
        self._secret = secrets.token_bytes(32)
        self.warnings: tuple[str, ...] = ()
        self._tokens_of: OrderedDict[str, Tokens] = OrderedDict()  # of choices
        self._end: int | None = None  # the token that ends a reply
        self.can_score = True  # the probe says whether

    async def complete(self, completion: Completion) -> Reply:
        """See ports.Engine. Choices are scored; where the server cannot, they are written under its mask."""
        if completion.choices and self.can_score:
            return await self._choose(completion)
        return await super().complete(completion)

    async def chat(self, body: JsonObject) -> JsonObject:
        """See ports.ChatEngine. cache_salt: the scope, which the server's salt is made of."""
        return await super().chat(self._salted(body))

    @asynccontextmanager
    async def chat_stream(self, body: JsonObject) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """See ports.ChatEngine."""
        async with super().chat_stream(self._salted(body)) as pieces:
            yield pieces

    async def logprobs_after(
        self, prompt: Sequence[int], steps: Sequence[int], scope: str
    ) -> tuple[Usage, list[float]]:
        """Return the log-probability of each token of `steps` as the next one, before temperature and masks."""
        body = {
            "model": self.info.model,
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": list(steps),
            "return_tokens_as_token_ids": True,
            "cache_salt": self.salt(scope),
        }
        answer = await self.exchange("/v1/completions", body)
        try:
            said = answer["choices"][0]["logprobs"]["top_logprobs"][0]
            return self.usage(answer["usage"]), [float(said[f"token_id:{token}"]) for token in steps]
        except (KeyError, IndexError, TypeError) as error:
            raise EngineRefused(f"the engine tells no log-probability of named tokens: it left out {error}") from error

    def salt(self, scope: str) -> str:
        """Return what keeps a scope's prefixes apart: of letters and digits, and not to be guessed."""
        return hmac.digest(self._secret, scope.encode("utf-8", "replace"), "sha256").hex()

    def _salted(self, body: JsonObject) -> JsonObject:
        # The card's name is ours; an attached server may know the model by another.
        return {**body, "model": self.info.model, "cache_salt": self.salt(str(body.get("cache_salt") or ""))}

    def _request(self, completion: Completion) -> dict[str, Any]:
        body = super()._request(completion)
        return {**body, "messages": _turns(completion.messages), "cache_salt": self.salt(completion.scope)}

    async def _choose(self, completion: Completion) -> Reply:
        """Score the choices. The prompt counts once, however many requests it took: all but one found it cached."""
        prompt, end = await asyncio.gather(self._prompt(completion.messages), self._end_token())
        choices = [await self._choice(choice) for choice in completion.choices]
        tree = ChoiceTree(choices, end)
        first, *others = tree.places
        scope = completion.scope
        usage, known = await self.logprobs_after(prompt, tree.steps(first), scope)
        later = await asyncio.gather(
            *(self.logprobs_after([*prompt, *place], tree.steps(place), scope) for place in others)
        )
        told = [known, *(logprobs for _, logprobs in later)]
        steps = {
            place: dict(zip(tree.steps(place), logprobs, strict=True))
            for place, logprobs in zip(tree.places, told, strict=True)
        }
        logprobs = tree.logprobs(steps)
        sampling = completion.sampling
        at = winner(logprobs, temperature=sampling.temperature, draw=random.Random(sampling.seed).random())
        spent = replace(usage, completion_tokens=len(choices[at]))
        return Reply(completion.choices[at], ReplyStop.COMPLETE, spent, logprobs=logprobs)

    async def _prompt(self, messages: Sequence[Message], *, goes_on: bool = True) -> Tokens:
        """Return a chat's tokens; goes_on: up to where a reply begins."""
        body = {"model": self.info.model, "messages": _turns(messages), "add_generation_prompt": goes_on}
        return self._tokens(await self.exchange("/tokenize", body))

    async def _choice(self, text: str) -> Tokens:
        if (known := self._tokens_of.get(text)) is not None:
            self._tokens_of.move_to_end(text)
            return known
        body = {"model": self.info.model, "prompt": text, "add_special_tokens": False}
        tokens = self._tokens(await self.exchange("/tokenize", body))
        self._tokens_of[text] = tokens
        if len(self._tokens_of) > _REMEMBERED_CHOICES:
            self._tokens_of.popitem(last=False)
        return tokens

    async def _end_token(self) -> int:
        """Return the token that the chat template puts behind a reply."""
        if self._end is None:
            asked = (Message(Role.USER, "a"),)
            open_, whole = await asyncio.gather(
                self._prompt(asked), self._prompt((*asked, Message(Role.ASSISTANT, "b")), goes_on=False)
            )
            reply = await self._choice("b")
            end = whole[len(open_) + len(reply) :]
            if whole[: len(open_) + len(reply)] != (*open_, *reply) or not end:
                raise EngineRefused("the engine's chat template does not say which token ends a reply")
            self._end = end[0]
        return self._end

    @staticmethod
    def _tokens(answer: dict[str, Any]) -> Tokens:
        tokens = answer.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise EngineUnavailable(f"the engine told no tokens: {str(answer)[:200]}")
        return tuple(tokens)


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return messages as the API takes them, with every control token made text."""
    return [{"role": one.role.value, "content": _CONTROL.sub(f"<{_NO_WIDTH}", one.content)} for one in messages]
