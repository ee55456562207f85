"""What a vLLM server honours, asked of the server itself: a field that it does not know it ignores without a word."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from rlm_local.engine.vllm.client import VllmClient
from rlm_local.errors import EngineRefused
from rlm_local.types import Completion, Message, Role

# Nothing that a model would say by itself, so that a reply of this form is the mask's doing.
_GRAMMARS = {"ebnf": 'root ::= "zq" [7-9] [7-9] "qz"', "lark": 'start: "zq" /[7-9]/ /[7-9]/ "qz"'}
_FORCED = re.compile(r"zq[7-9][7-9]qz")
# Longer than the blocks that vLLM caches by: 16 tokens on GPUs, 128 on CPUs.
_LONG = "The harbour master wrote down every ship. " * 60


@dataclass(frozen=True, slots=True)
class Honoured:
    """What a server was seen to do."""

    prompt_tokens: int  # of the prompt that was sent twice
    cached_tokens: int  # of it, the second time; 0 where nothing is reused, or nothing is told
    leaked_tokens: int  # of it, in another scope: must be 0
    scores: str  # why choices are not scored; empty where they are

    def lines(self) -> tuple[str, ...]:
        """Return what a person reads."""
        reuse = (
            f"reuses prefixes ({self.cached_tokens} of {self.prompt_tokens} tokens of a repeated prompt)"
            if self.cached_tokens
            else "tells of no reuse: a repeated prompt had 0 cached tokens"
        )
        apart = (
            f"does NOT keep scopes apart: {self.leaked_tokens} tokens of one were found from another"
            if self.leaked_tokens
            else "keeps scopes apart"
        )
        scoring = f"does not score choices ({self.scores}), so they are written" if self.scores else "scores choices"
        return (f"the engine obeys grammars, {reuse}, {apart}, {scoring}",)


async def probe(client: VllmClient) -> Honoured:
    """Ask for one forced reply, a prompt twice and in another scope, and one log-probability; some seconds on a CPU.

    Raises EngineRefused, in one sentence, where a reply does not keep its grammar: no turn could be held to anything.
    """
    dialect = client.info.grammar_dialect
    forced = Completion((Message(Role.USER, "Say hello."),), 16, grammar=_GRAMMARS[dialect])
    try:
        reply = await client.complete(forced)
    except EngineRefused as error:
        raise EngineRefused(f"the engine takes no grammar in {dialect}: {error}", hint=_REPAIR) from error
    if not _FORCED.fullmatch(reply.text.strip()):
        said = f"asked for {_GRAMMARS[dialect]} it wrote {reply.text[:40]!r}"
        raise EngineRefused(f"the engine does not keep grammars: {said}", hint=_REPAIR)
    nonce = secrets.token_hex(8)  # so that nothing of an earlier probe counts
    asked = Completion((Message(Role.USER, f"{nonce} {_LONG}"),), 1, scope=f"{nonce}-a")
    await client.complete(asked)
    again = await client.complete(asked)
    other = await client.complete(Completion(asked.messages, 1, scope=f"{nonce}-b"))
    scores = ""
    try:
        await client.complete(Completion(asked.messages, 4, choices=("yes", "no"), scope=asked.scope))
    except EngineRefused as error:
        client.can_score = False
        scores = str(error)
    usage = again.usage
    return Honoured(usage.prompt_tokens, usage.cached_tokens, other.usage.cached_tokens, scores)


_REPAIR = 'vLLM 0.12 or newer with --structured-outputs-config \'{"backend": "xgrammar"}\' keeps them'
