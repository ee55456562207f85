"""The short way: question and documents in one request, where they fit the window."""

from __future__ import annotations

import asyncio

from rlm_local.calls.caller import MESSAGE_TOKENS, TEMPLATE_TOKENS, UnreadableError
from rlm_local.calls.form import ReplyForm
from rlm_local.controller.budget import Budget
from rlm_local.controller.clock import Clock
from rlm_local.controller.denial import is_denial
from rlm_local.controller.finish import is_empty, is_supported, why
from rlm_local.controller.past import Past
from rlm_local.controller.record import Record
from rlm_local.controller.remember import Asker, Memory
from rlm_local.controller.tree import Cite, Cover, Validate, cover_nothing
from rlm_local.events import ROOT, RunEnded, TurnStarted, TurnTaken, TurnWritten, Validated
from rlm_local.grammar import AnswerSchema
from rlm_local.ports import CallCancelled, Engine, Recorder
from rlm_local.prompts import Profile, subcall_messages
from rlm_local.types import (
    Answer,
    Corpus,
    Final,
    JsonValue,
    Malformed,
    Message,
    Reply,
    Request,
    Route,
    Sampling,
    StopReason,
    Turn,
    Usage,
)

CHARS_PER_TOKEN = 128  # no text is so dense; a longer one need not be counted
STATE = "direct"  # of the one turn


def direct_messages(request: Request, corpus: Corpus, profile: Profile) -> tuple[Message, ...]:
    """Return the one request: the documents first, so that another question about them shares their prefix."""
    return subcall_messages(profile, _form(request).told(f"{corpus.context}\n\nQuestion: {request.question}"))


async def direct_tokens(request: Request, corpus: Corpus, profile: Profile, engine: Engine) -> int | None:
    """Return the tokens that a direct request and its answer take; None when that is far more than the window."""
    if len(corpus.context) > CHARS_PER_TOKEN * engine.info.window_tokens:
        return None
    messages = direct_messages(request, corpus, profile)
    counts = [await engine.count_tokens(message.content) for message in messages]
    return sum(counts) + MESSAGE_TOKENS * len(counts) + TEMPLATE_TOKENS + request.limits.answer_tokens


async def answer_directly(
    request: Request,
    corpus: Corpus,
    profile: Profile,
    engine: Engine,
    recorder: Recorder,
    *,
    sampling: Sampling,
    cite: Cite,
    cover: Cover = cover_nothing,
    past: Past | None = None,
    validate: Validate | None = None,
) -> Answer:
    """Ask once with the whole text, and tell the recorder as a run of one turn.

    The answer is confirmed when its words stand in the documents, which are searched for its citations; it is
    unconfirmed where they do not, where a limit ends it, and where `validate` does not take it.
    Raises EngineError, TraceError, and CancelledError after the recorder was told.
    """
    known = past or Past()
    clock = Clock(past_s=None if past is None else past.ended_at_s)
    budget = Budget(request.limits, now=clock.elapsed_s)
    budget.book(0, known.abandoned())
    record = Record(recorder, known, clock)
    asker = Asker(Memory(engine, recorder, known, clock), ROOT, budget)
    asker.turn = budget.turns = 1
    form = _form(request)

    def answered(value: JsonValue, stop: StopReason, reason: str) -> Answer:
        answer = Answer(
            value=value,
            stop=stop,
            confirmed=not reason,
            reason=reason,
            citations=cite(value, (), [str(corpus.context)]) if value is not None else (),
            usage=budget.usage,
            turns=budget.turns,
            wall_s=budget.elapsed_s,
            coverage=cover(shown=[str(corpus.context)], given=(), read_below=(), codes=()),
            route=Route.DIRECT,
            price=request.limits.price,
        )
        recorder.write(RunEnded(answer))
        return answer

    record.write(TurnStarted(ROOT, 1, STATE))
    messages = direct_messages(request, corpus, profile)
    wanted = await direct_tokens(request, corpus, profile, asker) or request.limits.max_tokens
    reserved = budget.reserve_turn(wanted - form.max_tokens, form.max_tokens)
    if isinstance(reserved, StopReason):
        stop = reserved
        return answered(None, stop, why(stop, request.limits, window_tokens=engine.info.window_tokens))
    used = Usage()
    try:
        async with asyncio.timeout(max(budget.remaining_s, 0.001)):
            completion = form.completion(messages, can_close=engine.info.can_close, sampling=sampling)
            reply = await asker.complete(completion)
            used = reply.usage
    except TimeoutError:
        stop = StopReason.TIME_LIMIT
        return answered(None, stop, why(stop, request.limits, window_tokens=engine.info.window_tokens))
    except asyncio.CancelledError as cancelled:
        used = cancelled.usage if isinstance(cancelled, CallCancelled) else used
        answered(None, StopReason.CANCELLED, "the run was cancelled")
        raise asyncio.CancelledError from None  # timeouts know no other kind
    finally:
        budget.settle(reserved, used)
    record.write(TurnWritten(ROOT, 1, reply.text))
    value, reason = _read(form, reply, corpus)
    if not reason and (complaint := await _complaint(value, record, known, validate)):
        reason = f"the answer was not accepted: {complaint}"
    action = Malformed(reason) if value is None else Final(value)
    record.write(TurnTaken(ROOT, 1, Turn(reply.text, action, reply.usage), "", elapsed_s=budget.elapsed_s))
    return answered(value, StopReason.FINAL, reason)


def _form(request: Request) -> ReplyForm:
    schema = None if request.answer_schema is None else AnswerSchema(request.answer_schema)
    return ReplyForm(request.limits.answer_tokens, schema=schema)


def _read(form: ReplyForm, reply: Reply, corpus: Corpus) -> tuple[JsonValue, str]:
    """Return what a reply says, and why that is not confirmed."""
    try:
        value = form.read(reply)
    except UnreadableError as error:
        return None, str(error)
    if is_empty(value):
        return None, "the model gave an empty answer"
    supported = is_denial(value) or is_supported(value, str(corpus.context))
    return value, "" if supported else "nothing in the documents says so"


async def _complaint(value: JsonValue, record: Record, past: Past, validate: Validate | None) -> str:
    complaint = past.complaint(ROOT, 1)
    if complaint is None:
        if validate is None:
            return ""
        complaint = await validate(value)
    record.write(Validated(ROOT, 1, complaint))
    return complaint
