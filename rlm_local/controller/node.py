"""One node of a run: complete -> decode -> execute -> observe, until a final or a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import Template
from typing import TypeAlias

from rlm_local.controller.budget import Budget
from rlm_local.controller.conversation import Conversation, situate
from rlm_local.controller.finish import best_so_far, is_empty, is_supported, why
from rlm_local.controller.recurse import SubCalls
from rlm_local.errors import WindowExceeded
from rlm_local.events import PageDone, RunEnded, SubCallDone, TurnStarted, TurnTaken, TurnWritten
from rlm_local.grammar import AnswerSchema, TurnState, decode_turn, is_written_out, turn_grammar
from rlm_local.ports import Engine, Recorder, Repl
from rlm_local.prompts import Profile
from rlm_local.types import (
    Answer,
    Cell,
    CellResult,
    CellStatus,
    Citation,
    Completion,
    Corpus,
    Final,
    FinalVar,
    JsonValue,
    Reply,
    Request,
    Sampling,
    Span,
    StopReason,
    Turn,
    Usage,
)

Cite: TypeAlias = Callable[[JsonValue, Sequence[Span], Sequence[str]], tuple[Citation, ...]]
"""Finds the passages that a value rests on, from printed spans and from texts that were read."""

FINISH_BY = 0.85  # share of the run's seconds after which the next turn may only answer
RETRY_TEMPERATURES = (0.7, 1.0)  # for a reply that repeats an earlier cell


@dataclass(frozen=True, slots=True)
class Ports:
    """Who is plugged in for one run."""

    engine: Engine
    repl: Repl
    recorder: Recorder


async def run_node(
    request: Request, corpus: Corpus, ports: Ports, profile: Profile, *, sampling: Sampling, cite: Cite
) -> Answer:
    """Answer a request and tell the recorder all that happens on the way, the answer included.

    A limit ends the run with an unconfirmed answer. Raises ConfigError when the question or the tokens leave no
    room for a single turn, or the answer's schema is not served; what is our fault: EngineError, JailError,
    TraceError; and CancelledError, after the recorder was told.
    """
    node = _Node(request, corpus, ports, profile, sampling, cite)
    try:
        async with asyncio.timeout(request.limits.wall_s):
            answer = await node.run()
    except TimeoutError:
        answer = node.unconfirmed(StopReason.TIME_LIMIT)
    except asyncio.CancelledError:
        ports.recorder.write(RunEnded(node.unconfirmed(StopReason.CANCELLED)))
        raise
    ports.recorder.write(RunEnded(answer))
    return answer


class _Node:
    """The state of one run between its turns."""

    def __init__(
        self,
        request: Request,
        corpus: Corpus,
        ports: Ports,
        profile: Profile,
        sampling: Sampling,
        cite: Cite,
    ) -> None:
        self._request = request
        self._limits = request.limits
        self._corpus = corpus
        self._engine = ports.engine
        self._repl = ports.repl
        self._recorder = ports.recorder
        self._profile = profile
        self._sampling = sampling
        self._schema = None if request.answer_schema is None else AnswerSchema(request.answer_schema)
        self._cite = cite
        self._budget = Budget(request.limits)
        self._turns: list[Turn] = []
        self._held: JsonValue = None  # an answer that was given too early or without support
        self._forced_by: StopReason | None = None  # the limit for which the coming turn may only answer
        self._stuck = False  # the model repeats itself whatever is drawn: it has nothing left to try
        self._talk = Conversation(ports.engine, profile)

    async def run(self) -> Answer:
        await self._open()
        state = TurnState.FIRST
        while (stop := self._budget.exhausted()) is None:
            reply = await self._turn_reply(state)
            if isinstance(reply, StopReason):
                return self.unconfirmed(reply)
            turn = await self._act(reply)
            self._turns.append(turn)
            final, note = self._judge(turn, state)
            if final is not None:
                self._recorder.write(TurnTaken(self._budget.turns, turn, ""))
                return final
            state = await self._observe(turn, note)
        return self.unconfirmed(stop)

    def unconfirmed(self, stop: StopReason) -> Answer:
        return self._answer(best_so_far(self._turns, self._held), stop, reason=self._why(stop))

    # --- one turn ---------------------------------------------------------------------------------------

    async def _open(self) -> None:
        situation = await situate(self._engine, self._profile, self._request, self._corpus)
        await self._talk.open(situation)
        self._talk.check_room(
            turn_tokens=self._limits.turn_tokens,
            answer_tokens=self._limits.answer_tokens,
            max_tokens=self._limits.max_tokens,
        )
        self._subcalls = SubCalls(
            self._engine,
            self._profile,
            self._budget,
            prompt_tokens=situation.subcall_tokens,
            prompt_chars=situation.subcall_chars,
            overhead_tokens=self._engine.info.window_tokens - situation.subcall_tokens - self._limits.subcall_tokens,
            on_done=lambda subcall: self._recorder.write(SubCallDone(self._budget.turns, subcall)),
            on_page=lambda page: self._recorder.write(PageDone(self._budget.turns, page)),
        )

    def _next_state(self) -> TurnState:
        if not any(_has_looked(turn) for turn in self._turns):
            return TurnState.FIRST
        self._forced_by = self._near_limit()
        return TurnState.LAST if self._forced_by or self._stuck else TurnState.OPEN

    def _near_limit(self) -> StopReason | None:
        """Return the limit that leaves room for an answer only, or None."""
        window = self._engine.info.window_tokens
        # An ordinary turn must leave room for the observation that follows it and for an answer after that.
        growth = self._limits.turn_tokens + self._talk.output_tokens + self._limits.answer_tokens
        if self._budget.remaining_turns == 1:
            return StopReason.TURN_LIMIT
        if self._budget.elapsed_s > FINISH_BY * self._limits.wall_s:
            return StopReason.TIME_LIMIT
        if self._budget.remaining_tokens < 2 * self._talk.prompt_tokens + growth:
            return StopReason.TOKEN_LIMIT
        return StopReason.WINDOW_LIMIT if window < self._talk.prompt_tokens + growth else None

    async def _turn_reply(self, state: TurnState) -> Reply | StopReason:
        """Return the reply of one turn, or the limit that leaves no room for one.

        A cell that ran before would print the same again, and a small model that wrote it twice writes it
        forever. So such a reply is thrown away and drawn anew, less predictably each time; when that does not
        help either, the next turn may only answer.
        """
        self._budget.turns += 1
        self._recorder.write(TurnStarted(self._budget.turns, state.value))
        reply = await self._complete(state, self._sampling)
        for number, temperature in enumerate(RETRY_TEMPERATURES, start=1):
            if isinstance(reply, StopReason) or not self._is_repeated(reply):
                break
            reply = await self._complete(state, replace(self._sampling, temperature=temperature, seed=number))
        if isinstance(reply, Reply):
            self._recorder.write(TurnWritten(self._budget.turns, reply.text))
        return reply

    def _is_repeated(self, reply: Reply) -> bool:
        action = decode_turn(reply.text, reply.stop, self._profile.protocol)
        # An answer that was held back may well be the right one.
        return isinstance(action, Cell) and any(turn.action == action and not _final_of(turn) for turn in self._turns)

    async def _complete(self, state: TurnState, sampling: Sampling) -> Reply | StopReason:
        """Ask the engine once, within the budget."""
        wanted = self._limits.answer_tokens if state is TurnState.LAST else self._limits.turn_tokens
        info = self._engine.info
        max_tokens = min(wanted, info.window_tokens - self._talk.prompt_tokens)
        grammar = turn_grammar(
            state,
            info.grammar_dialect,
            self._request.grammar,
            protocol=self._profile.protocol,
            answer=self._schema,
            imports=self._profile.imports,
            turn_tokens=self._limits.turn_tokens,
        )
        if max_tokens < 1:
            return StopReason.WINDOW_LIMIT
        reserved = self._talk.prompt_tokens + max_tokens
        if not self._budget.reserve(reserved):
            return StopReason.TOKEN_LIMIT
        used = Usage()
        try:
            reply = await self._engine.complete(
                Completion(
                    self._talk.messages,
                    max_tokens=max_tokens,
                    sampling=sampling,
                    grammar=grammar,
                    close_at_limit=info.can_close and grammar is not None,
                )
            )
            used = reply.usage
        except WindowExceeded:
            if self._turns:  # the estimate was short: the conversation has outgrown the window
                return StopReason.WINDOW_LIMIT
            raise
        finally:
            self._budget.settle(reserved, used)
        return reply

    async def _act(self, reply: Reply) -> Turn:
        action = decode_turn(reply.text, reply.stop, self._profile.protocol)
        result = None
        if isinstance(action, Cell):
            result = await self._execute(action.code)
        elif isinstance(action, FinalVar):
            result = await self._execute(f"FINAL_VAR({action.name!r})")
        return Turn(reply.text, action, reply.usage, result, reply.closed_text)

    async def _execute(self, code: str) -> CellResult:
        self._subcalls.leaving_tokens = self._talk.prompt_tokens + self._limits.turn_tokens + self._limits.answer_tokens
        wall_s = min(self._limits.cell_s, max(self._budget.remaining_s, 0.001))
        facts = {"LIMITS": self._subcalls.limits()}
        return await self._repl.execute(code, wall_s=wall_s, query=self._subcalls, facts=facts)

    def _judge(self, turn: Turn, state: TurnState) -> tuple[Answer | None, str]:
        """Return the answer that this turn gives, or the note that tells the model why it gives none."""
        final = _final_of(turn)
        if final is None:
            self._stuck = isinstance(turn.action, Cell) and any(
                turn.action == earlier.action for earlier in self._turns[:-1]
            )
            return None, self._profile.repeated if self._stuck else ""
        if is_empty(final.value):
            if self._forced_by is not None:
                return self.unconfirmed(self._forced_by), ""
            if any(is_written_out(turn.action) and _final_of(turn) for turn in self._turns[:-1]):
                return self._answer(None, StopReason.FINAL, reason="the model gave an empty answer"), ""
            return None, self._profile.empty
        if state is TurnState.FIRST:
            self._held = final.value
            return None, _fill(self._profile.held, value=_short(final.value))
        if wrong := self._schema.mismatch(final.value) if self._schema else "":
            if self._forced_by is not None:
                return self._answer(final.value, self._forced_by, reason=wrong), ""
            return None, _fill(self._profile.mistyped, why=wrong)
        # What the answering cell computed supports its own answer; a literal must have been seen.
        supported = not is_written_out(turn.action) or is_supported(final.value, "\n".join(self._talk.printed))
        if self._forced_by is not None:
            return self._answer(final.value, self._forced_by, reason=self._why(self._forced_by)), ""
        if not supported and self._held != final.value and not self._stuck:
            self._held = final.value
            return None, _fill(self._profile.unsupported, value=_short(final.value))
        reason = "" if supported else "nothing that was printed says so"
        return self._answer(final.value, StopReason.FINAL, reason=reason), ""

    async def _observe(self, turn: Turn, note: str) -> TurnState:
        """Tell the model what became of its turn, and return the state of the next one."""
        output = await self._talk.hear(turn)
        self._talk.read += self._subcalls.take_read()
        state = self._next_state()
        what_now = self._profile.last if state is TurnState.LAST else self._profile.open
        what_now = _fill(what_now, turns_left=self._budget.remaining_turns)
        if turn.closed_text:
            note = f"{_fill(self._profile.closed, closed=turn.closed_text.strip())}\n{note}".strip()
        told = self._talk.say(turn, output, f"{note}\n{what_now}".strip())
        self._recorder.write(TurnTaken(self._budget.turns, turn, told))
        return state

    def _why(self, stop: StopReason) -> str:
        return why(stop, self._limits, window_tokens=self._engine.info.window_tokens)

    def _answer(self, value: JsonValue, stop: StopReason, *, reason: str) -> Answer:
        results = [turn.result for turn in self._turns if turn.result is not None]
        spans = [span for result in results for span in result.spans]
        return Answer(
            value=value,
            stop=stop,
            confirmed=not reason,
            reason=reason,
            citations=self._cite(value, spans, self._talk.read) if value is not None else (),
            usage=self._budget.usage,
            subcalls=self._budget.subcalls,
            turns=self._budget.turns,
            wall_s=self._budget.elapsed_s,
        )


def _has_looked(turn: Turn) -> bool:
    """Say whether a turn's code ran far enough for an answer to rest on it: to its end, or until it had printed."""
    result = turn.result
    return result is not None and (result.status is CellStatus.OK or bool(result.stdout))


def _final_of(turn: Turn) -> Final | None:
    if isinstance(turn.action, Final):
        return turn.action
    return turn.result.final if turn.result is not None else None


def _fill(template: str, **values: object) -> str:
    return Template(template).substitute(values)


def _short(value: JsonValue, limit: int = 200) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
