"""One turn's reply: asked of the engine within the budget, and drawn anew where it only repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from rlm_local.controller.budget import Budget
from rlm_local.controller.conversation import Conversation
from rlm_local.errors import WindowExceeded
from rlm_local.grammar import AnswerSchema, TurnState, decode_turn, turn_grammar
from rlm_local.ports import CallCancelled, Engine
from rlm_local.prompts import Profile
from rlm_local.types import Action, Cell, Completion, GrammarMode, Reply, Sampling, StopReason, Usage

RETRY_TEMPERATURES = (0.7, 1.0)  # for a reply that repeats an earlier cell


class TurnWriter:
    """Writes the turns of one node."""

    def __init__(
        self,
        engine: Engine,
        budget: Budget,
        talk: Conversation,
        profile: Profile,
        *,
        sampling: Sampling,
        grammar: GrammarMode,
        schema: AnswerSchema | None,
        may_recurse: bool,
    ) -> None:
        self._engine = engine
        self._budget = budget
        self._talk = talk
        self._profile = profile
        self._sampling = sampling
        self._grammar = grammar
        self._schema = schema
        self._may_recurse = may_recurse

    async def write(self, state: TurnState, *, has_run: Callable[[Action], bool], is_first: bool) -> Reply | StopReason:
        """Return the reply of one turn, or the limit that leaves no room for one.

        A cell that ran before would print the same again, and a small model that wrote it twice writes it
        forever. So such a reply is thrown away and drawn anew, less predictably each time; when that does not
        help either, the next turn may only answer.
        """
        reply = await self._complete(state, self._sampling, is_first=is_first)
        for number, temperature in enumerate(RETRY_TEMPERATURES, start=1):
            if isinstance(reply, StopReason) or not self._repeats(reply, has_run):
                break
            hotter = replace(self._sampling, temperature=temperature, seed=number)
            reply = await self._complete(state, hotter, is_first=is_first)
        return reply

    async def _complete(self, state: TurnState, sampling: Sampling, *, is_first: bool) -> Reply | StopReason:
        """Ask the engine once, within the budget."""
        limits, info = self._budget.limits, self._engine.info
        wanted = limits.answer_tokens if state is TurnState.LAST else limits.turn_tokens
        max_tokens = min(wanted, info.window_tokens - self._talk.prompt_tokens)
        if max_tokens < 1:
            return StopReason.WINDOW_LIMIT
        grammar = turn_grammar(
            state,
            info.grammar_dialect,
            self._grammar,
            protocol=self._profile.protocol,
            answer=self._schema,
            may_recurse=self._may_recurse,
            imports=self._profile.imports,
            turn_tokens=limits.turn_tokens,
        )
        async with self._budget.slot:
            reserved = self._budget.reserve_turn(self._talk.prompt_tokens, max_tokens)
            if isinstance(reserved, StopReason):
                return reserved
            used = Usage()
            try:
                reply = await self._engine.complete(
                    Completion(
                        self._talk.messages,
                        max_tokens=max_tokens,
                        sampling=sampling,
                        grammar=grammar,
                        close_at_limit=info.can_close and grammar is not None,
                        public_messages=1 + len(self._profile.worked),
                    )
                )
                used = reply.usage
            except CallCancelled as cancelled:
                used = cancelled.usage
                raise asyncio.CancelledError from None  # timeouts know no other kind
            except WindowExceeded:
                if not is_first:  # the estimate was short: the conversation has outgrown the window
                    return StopReason.WINDOW_LIMIT
                raise
            finally:
                self._budget.settle(reserved, used)
        return reply

    def _repeats(self, reply: Reply, has_run: Callable[[Action], bool]) -> bool:
        action = decode_turn(reply.text, reply.stop, self._profile.protocol)
        return isinstance(action, Cell) and has_run(action)
