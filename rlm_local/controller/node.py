"""One node of a run: complete -> decode -> execute -> observe, until a final or a limit."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rlm_local.controller.again import has_run
from rlm_local.controller.breaker import Breaker
from rlm_local.controller.children import Children, may_recurse
from rlm_local.controller.conversation import Conversation, situate
from rlm_local.controller.denial import is_denial
from rlm_local.controller.finish import best_so_far, why
from rlm_local.controller.judge import Judge, Verdict, fill, final_of
from rlm_local.controller.left import told_left
from rlm_local.controller.past import code_of
from rlm_local.controller.quotes import asks_for_quotes, unquoted
from rlm_local.controller.record import CallRecord
from rlm_local.controller.recurse import SubCalls
from rlm_local.controller.tree import Opened, Place, Tree
from rlm_local.controller.writing import TurnWriter
from rlm_local.events import Spent, TurnStarted, TurnTaken, TurnWritten, Validated
from rlm_local.grammar import AnswerSchema, TurnState, decode_turn
from rlm_local.types import (
    Action,
    Answer,
    CellResult,
    CellStatus,
    Final,
    JsonValue,
    Reply,
    Request,
    StopReason,
    Turn,
    Usage,
)

FINISH_BY = 0.85  # share of the run's seconds after which the next turn may only answer


class Node:
    """The state of one node between its turns."""

    def __init__(self, request: Request, opened: Opened, tree: Tree, place: Place) -> None:
        self._request = request
        self._limits = request.limits
        self._corpus = opened.corpus
        self._repl = opened.repl
        self._tree = tree
        self._place = place
        self._id = place.id
        self._budget = place.budget
        self._recorder = tree.recorder
        self._profile = tree.profile
        self._cite = opened.cite
        self._cover = opened.cover
        self._children: Children | None = None
        self._engine = tree.asker(place)
        self._items = tree.asker(place, asks_items=True)
        self._turns: list[Turn] = []
        self._elapsed_s = 0.0  # when the last turn was over; what is decided and told of time goes by it
        self._forced_by: StopReason | None = None  # the limit for which the coming turn may only answer
        schema = None if request.answer_schema is None else AnswerSchema(request.answer_schema)
        self._breaker = Breaker()
        self._judge = Judge(tree.profile, request.question, schema, documents=len(opened.corpus.documents))
        self._talk = Conversation(self._engine, tree.profile)
        self._writer = TurnWriter(
            self._engine,
            self._budget,
            self._talk,
            tree.profile,
            sampling=tree.sampling,
            grammar=request.grammar,
            schema=schema,
            may_recurse=may_recurse(request.limits, tree, place),
        )

    async def run(self) -> Answer:
        """Take turns until there is an answer or no room for another turn."""
        await self._open()
        state = TurnState.FIRST
        while (stop := self._budget.exhausted()) is None:
            reply = await self._reply(state)
            if isinstance(reply, StopReason):
                return self.unconfirmed(reply)
            before = self._spent_so_far()
            turn = await self._act(reply)
            spent = _between(before, self._spent_so_far())
            told_s = self._tree.past.elapsed_s(self._id, self._budget.turns)
            self._elapsed_s = self._budget.elapsed_s if told_s is None else told_s
            self._turns.append(turn)
            verdict = self._judge.judge(
                self._turns,
                state,
                printed=self._talk.printed,
                forced_by=self._forced_by,
                why=self._why(self._forced_by) if self._forced_by else "",
            )
            if verdict.value_given and not verdict.reason and (line := await self._misquoted(verdict.value)):
                verdict = self._judge.misquoted(verdict.value, line)
            if verdict.value_given and not verdict.reason and (complaint := await self._complaint(verdict.value)):
                verdict = self._judge.reject(verdict.value, complaint)
            if verdict.value_given:
                self._tell(turn, "", spent)
                if verdict.is_best_so_far:
                    return self.unconfirmed(verdict.stop)
                return self._answer(verdict.value, verdict.stop, reason=verdict.reason)
            if self._forced_by is StopReason.NO_PROGRESS:  # told twice, and without a grammar nothing makes it answer
                self._tell(turn, "", spent)
                return self.unconfirmed(StopReason.NO_PROGRESS)
            state = await self._observe(turn, verdict, spent)
            if state is TurnState.FIRST and self._breaker.trips > 1:  # it may not answer before it has seen anything
                return self.unconfirmed(StopReason.NO_PROGRESS)
        return self.unconfirmed(stop)

    def unconfirmed(self, stop: StopReason) -> Answer:
        """Return the best answer of what was seen so far."""
        return self._answer(best_so_far(self._turns, self._judge.held), stop, reason=self._why(stop))

    # --- one turn ---------------------------------------------------------------------------------------

    async def _open(self) -> None:
        situation = await situate(self._engine, self._profile, self._request, self._corpus)
        await self._talk.open(situation)
        self._talk.check_room(
            turn_tokens=self._limits.turn_tokens,
            answer_tokens=self._limits.answer_tokens,
            max_tokens=self._limits.max_tokens,
        )
        record = CallRecord(self._recorder, self._id, turn=lambda: self._budget.turns)
        self._subcalls = SubCalls(
            self._engine,
            self._items,
            self._profile,
            self._budget,
            prompt_tokens=situation.subcall_tokens,
            prompt_chars=situation.subcall_chars,
            overhead_tokens=self._engine.info.window_tokens - situation.subcall_tokens - self._limits.subcall_tokens,
            record=record,
            ask_before=self._tree.ask_before,
        )
        self._children = Children(
            self._tree,
            self._place,
            self._request,
            self._corpus,
            self._subcalls,
            turn=lambda: self._budget.turns,
            on_done=record.done,
        )

    async def _reply(self, state: TurnState) -> Reply | StopReason:
        self._budget.turns += 1
        self._engine.turn = self._items.turn = self._budget.turns
        self._recorder.write(TurnStarted(self._id, self._budget.turns, state.value))
        reply = await self._writer.write(state, has_run=self._has_run, is_first=not self._turns)
        if isinstance(reply, Reply):
            self._recorder.write(TurnWritten(self._id, self._budget.turns, reply.text))
        return reply

    def _has_run(self, action: Action) -> bool:
        # An answer that was held back may well be the right one.
        return has_run(action, [turn for turn in self._turns if not final_of(turn)])

    async def _act(self, reply: Reply) -> Turn:
        action = decode_turn(reply.text, reply.stop, self._profile.protocol)
        code = code_of(action)
        result = await self._execute(code) if code else None
        return Turn(reply.text, action, reply.usage, result, reply.closed_text)

    async def _execute(self, code: str) -> CellResult:
        past = self._tree.past
        cell = past.cell(self._id, self._budget.turns)
        if cell is not None and not past.redo:
            # It ran before: it comes to what it came to, and what it cost was paid then.
            before = self._spent_so_far()
            await self._subcalls.learn_again(cell.result.pages)
            rest = _between(_between(before, self._spent_so_far()), cell.spent)
            self._tree.memory.recall(self._id, self._budget.turns)
            self._budget.book(rest.subcalls, rest.usage, rest.remembered)
            self._tree.clock.tell(cell.at_s)
            return cell.result
        if not past.redo:
            self._tree.clock.go_live()
        replies = self._limits.turn_tokens + self._limits.answer_tokens
        self._budget.kept = Usage(self._talk.prompt_tokens, 0, replies)
        self._subcalls.begin_turn()
        wall_s = min(self._limits.cell_s, max(self._budget.remaining_s, 0.001))
        facts: dict[str, JsonValue] = {"LIMITS": self._subcalls.limits()}
        if cell is not None and isinstance(cell.result.facts, dict):
            facts = cell.result.facts
        try:
            result = await self._repl.execute(
                code, wall_s=wall_s, query=self._subcalls, recurse=self._children, facts=facts
            )
        finally:
            self._budget.kept = Usage()
        if cell is not None:
            self._tree.clock.tell(cell.at_s)
            # What comes after it was said of what it came to then.
            return past.compare(self._id, self._budget.turns, result)
        return result

    async def _misquoted(self, value: JsonValue) -> str:
        """Return the line of an answer that no document has, where the question asks for quotes; empty for none."""
        if not asks_for_quotes(self._request.question) or is_denial(value):
            return ""
        return await asyncio.to_thread(unquoted, value, self._corpus)

    async def _complaint(self, value: JsonValue) -> str:
        """Return what the caller's own check has against an answer; empty when it takes it, or there is none."""
        turn = self._budget.turns
        complaint = self._tree.past.complaint(self._id, turn)
        if complaint is None:
            if self._tree.validate is None or self._place.depth:
                return ""
            self._tree.clock.go_live()
            complaint = await self._tree.validate(value)
        self._recorder.write(Validated(self._id, turn, complaint))
        return complaint

    async def _observe(self, turn: Turn, verdict: Verdict, spent: Spent) -> TurnState:
        """Tell the model what became of its turn, and return the state of the next one."""
        output = await self._talk.hear(turn)
        cost = max(
            spent.usage.total_tokens / self._limits.max_tokens, spent.subcalls / max(1, self._limits.max_subcalls)
        )
        tripped = self._breaker.see(turn, cost) and not self._judge.stuck  # who is stuck is told that already
        state, note = self._next_state(look_first=verdict.look_first), verdict.note
        if tripped and not self._forced_by:
            note = f"{note}\n{fill(self._profile.circle, why=self._breaker.why)}".strip()
        what_now = told_left(self._profile, state, self._budget, self._elapsed_s)
        if turn.closed_text:
            note = f"{fill(self._profile.closed, closed=turn.closed_text.strip())}\n{note}".strip()
        told = self._talk.say(turn, output, f"{note}\n{what_now}".strip())
        self._tell(turn, told, spent)
        return state

    def _next_state(self, *, look_first: bool) -> TurnState:
        if not any(_has_looked(turn) for turn in self._turns):
            return TurnState.FIRST
        self._forced_by = self._near_limit()
        if self._forced_by or self._judge.stuck:
            return TurnState.LAST
        return TurnState.FIRST if look_first else TurnState.OPEN

    def _near_limit(self) -> StopReason | None:
        """Return the limit that leaves room for an answer only, or None."""
        window = self._engine.info.window_tokens
        # An ordinary turn must leave room for the observation that follows it and for an answer after that.
        growth = self._limits.turn_tokens + self._talk.output_tokens + self._limits.answer_tokens
        if self._breaker.trips > 1:
            return StopReason.NO_PROGRESS
        if self._budget.remaining_turns == 1:
            return StopReason.TURN_LIMIT
        if self._elapsed_s > FINISH_BY * self._limits.wall_s:
            return StopReason.TIME_LIMIT
        if self._budget.remaining_tokens < 2 * self._talk.prompt_tokens + growth:
            return StopReason.TOKEN_LIMIT
        to_come = Usage(2 * self._talk.prompt_tokens + self._talk.output_tokens, 0, self._limits.turn_tokens)
        if self._budget.remaining_cost < self._budget.cost(to_come + Usage(0, 0, self._limits.answer_tokens)):
            return StopReason.COST_LIMIT
        if self._budget.remaining_completion_tokens < self._limits.turn_tokens + self._limits.answer_tokens:
            return StopReason.TOKEN_LIMIT
        return StopReason.WINDOW_LIMIT if window < self._talk.prompt_tokens + growth else None

    # --- what is told -----------------------------------------------------------------------------------

    def _tell(self, turn: Turn, observation: str, spent: Spent) -> None:
        # The sub-calls were told one by one, as they ended.
        told = turn if turn.result is None else replace(turn, result=replace(turn.result, subcalls=(), pages=()))
        self._recorder.write(TurnTaken(self._id, self._budget.turns, told, observation, spent, self._elapsed_s))

    def _spent_so_far(self) -> Spent:
        return Spent(self._budget.subcalls, self._budget.usage, self._budget.remembered)

    def _why(self, stop: StopReason) -> str:
        if stop is StopReason.NO_PROGRESS:
            return f"the run went round in a circle: {self._breaker.why}"
        return why(stop, self._limits, window_tokens=self._engine.info.window_tokens)

    def _answer(self, value: JsonValue, stop: StopReason, *, reason: str) -> Answer:
        results = [turn.result for turn in self._turns if turn.result is not None]
        spans = [span for result in results for span in result.spans]
        finals = [final for turn in self._turns if (final := final_of(turn)) is not None and final.value == value]
        given = finals[-1] if finals else Final(value)
        covered = self._cover(
            shown=self._talk.shown,
            given=self._talk.given,
            read_below=self._children.read if self._children else (),
            codes=[code for turn in self._turns if turn.result is not None and (code := code_of(turn.action))],
        )
        answer = Answer(
            value=value,
            stop=stop,
            confirmed=not reason,
            reason=reason,
            citations=self._cite(value, spans, self._talk.read, sources=given.sources) if value is not None else (),
            unfound=given.unfound,
            usage=self._budget.usage,
            subcalls=self._budget.subcalls,
            turns=self._budget.turns,
            wall_s=self._budget.elapsed_s,
            remembered=self._budget.remembered,
            coverage=covered,
            price=self._limits.price,
        )
        wanted = self._request.require_coverage
        if answer.confirmed and answer.read_share < wanted:
            unread = f"{answer.read_share:.1%} of the characters were read by a model, but {wanted:.1%} are required"
            return replace(answer, confirmed=False, reason=unread)
        return answer


def _has_looked(turn: Turn) -> bool:
    """Say whether a turn's code ran far enough for an answer to rest on it: to its end, or until it had printed."""
    result = turn.result
    return result is not None and (result.status is CellStatus.OK or bool(result.stdout))


def _between(before: Spent, after: Spent) -> Spent:
    return Spent(after.subcalls - before.subcalls, after.usage - before.usage, after.remembered - before.remembered)
