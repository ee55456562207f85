"""From a trace to a run that goes on where it was cut off, or is gone through again without an engine."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NoReturn

from rlm_local import __version__
from rlm_local.cards import find_card, load_cards
from rlm_local.controller import Past, timeless
from rlm_local.documents import load
from rlm_local.errors import ConfigError, DocumentError, RunDiffers, TraceError
from rlm_local.events import DocumentInfo, Event, Routed, RunEnded, RunStarted
from rlm_local.jail import Packages, find_packages
from rlm_local.plan import Plan, profile_of
from rlm_local.runtime import Runtime
from rlm_local.texts import text_sha256
from rlm_local.trace import Trace, differences
from rlm_local.types import Answer, Completion, Document, EngineInfo, JsonObject, Reply, Request, Route, StopReason

_NAMED = 3  # documents in a message; the rest is counted
_UNTOLD = "those of an engine that ran already"


@dataclass(frozen=True, slots=True)
class Again:
    """A recorded run that can be run again: its documents are here, and they are the same."""

    trace: Trace
    started: RunStarted
    request: Request

    def past(self, *, redo: bool = False) -> Past:
        """Return what its trace knows. redo: see controller.Past."""
        return Past(self.trace.events, self.trace.times_s, redo=redo)


def read_again(trace: Trace, paths: Sequence[str] = ()) -> Again:
    """Return a trace's run with its documents, each read from where it was, or from one of `paths` with its text.

    Raises TraceError for a trace that does not begin with a run of this build, DocumentError for a document that has
    changed or is gone, and for a path that has the text of none.
    """
    started = trace.events[0]
    if not isinstance(started, RunStarted):
        raise TraceError(f"{trace.path} does not begin with the start of a run, so nothing can be run again")
    if started.version != __version__:
        raise TraceError(
            f"{trace.path} was written by rlm-local {started.version}, and this is {__version__}",
            hint=f"use rlm-local {started.version}, or ask again",
        )
    by_digest = _named(started, paths)
    documents = tuple(_document(info, by_digest.get(info.sha256)) for info in started.documents)
    request = Request(
        started.question,
        documents,
        started.limits,
        started.grammar,
        started.answer_schema,
        started.require_coverage,
        next((event.route for event in trace.events if isinstance(event, Routed)), Route.RLM),
    )
    return Again(trace, started, request)


def check_unfinished(trace: Trace) -> None:
    """Raise ConfigError for a run that needs no going on: one that has its answer."""
    answer = trace.answer
    if answer is not None and answer.stop is not StopReason.CANCELLED:
        raise ConfigError(
            f"the run of {trace.path} came to its end ({answer.stop.value})",
            hint=f"`rlm-local trace show {trace.path}` tells its answer",
        )


def check_same(again: Again, plan: Plan | Runtime) -> None:
    """Raise TraceError when the model or its prompts are not those of the run."""
    started = again.started
    if started.weights_sha256 != plan.weights_sha256:
        had, has = started.weights_sha256 or _UNTOLD, plan.weights_sha256 or _UNTOLD
        raise TraceError(
            f"the weights of {plan.card.name} are not those of the run: it had {had}, now there is {has}",
            hint="`rlm-local resume` takes the options of the engine that it had (--engine, --engine-url); "
            "or bring the weights back, or ask again",
        )
    for what, was, now in (
        ("jail packages", started.jail_packages, plan.packages.named),
        ("prompts", (started.profile, started.prompts_sha256), (plan.profile.name, plan.profile.sha256)),
        ("sampling", started.sampling, plan.card.sampling),
    ):
        if was != now:
            raise TraceError(
                f"the {what} of {plan.card.name} are not those of the run: it had {was}, now there is {now}",
                hint="bring them back, or ask again",
            )


def check_window(again: Again, runtime: Runtime) -> None:
    """Raise ConfigError when the engine's window is not that of the run: what it was told would be cut otherwise."""
    had, has = again.started.engine.window_tokens, runtime.engine.info.window_tokens
    if had != has:
        raise ConfigError(
            f"the run had a window of {had} tokens, and this engine has {has}", hint=f"start one with {had}"
        )


def packages_of(started: RunStarted) -> Packages:
    """Return what the cells of a run could import. Raises ConfigError for a package that is not installed any more."""
    return find_packages([named.partition("==")[0] for named in started.jail_packages])


def past_of(trace: Trace, started: RunStarted) -> Past:
    """Return what a trace knows of the run that would begin with `started` now.

    Raises RunDiffers, with the names of what differs, when the trace's run began otherwise.
    """
    began = trace.events[0]
    if not isinstance(began, RunStarted):
        raise RunDiffers(f"{trace.path} does not begin with the start of a run")
    names = [field.name for field in fields(began) if getattr(began, field.name) != getattr(started, field.name)]
    if names:
        raise RunDiffers(f"the run of {trace.path} began with other {', '.join(names)}", hint="begin it anew")
    return Past(trace.events, trace.times_s)


async def replay(again: Again) -> list[str]:
    """Go through a run without an engine: its cells run again in a real jail, its replies are those of the trace.

    Return each difference from what the trace tells, a line each; [] when all is the same.
    Raises JailError, and ConfigError when the card or a package is gone.
    """
    started = again.started
    card = find_card(started.model, load_cards())
    packages = packages_of(started)
    past = again.past(redo=True)
    found = _Differences(past, is_whole=_has_answer(again.trace))
    runtime = Runtime(
        card=replace(card, sampling=started.sampling),
        profile=profile_of(card, packages),
        engine=_NoEngine(started.engine),
        weights_sha256=started.weights_sha256,
        packages=packages,
    )
    past.on_difference = found.note
    try:
        answer: Answer | None = await runtime.ask(again.request, found, past=past)
    except _NotRecorded as ended:
        answer = None
        if past.untold() or _has_answer(again.trace):
            found.lines.append(str(ended))
    found.lines += [f"the trace has {_name(event)}, which did not come" for event in past.untold()]
    if answer is not None and _has_answer(again.trace):
        recorded = again.trace.answer
        assert recorded is not None
        found.lines += differences(RunEnded(replace(recorded, wall_s=0.0)), RunEnded(replace(answer, wall_s=0.0)))
    return found.lines


class _Differences:
    """A Recorder that keeps only what the trace does not have. One that was cut off may be gone through further."""

    def __init__(self, past: Past, *, is_whole: bool) -> None:
        self.lines: list[str] = []
        self._past = past
        self._is_whole = is_whole

    def write(self, event: Event) -> None:
        if not isinstance(event, RunEnded) and (self._is_whole or self._past.untold()):
            self.lines.append(f"{_name(event)} came, which the trace does not have")

    def note(self, recorded: Event, now: Event) -> None:
        self.lines += differences(timeless(recorded), timeless(now))


class _NotRecorded(TraceError):
    """The engine was asked for something that the trace does not hold."""


class _NoEngine:
    """An Engine that knows what it was, and nothing else."""

    def __init__(self, info: EngineInfo) -> None:
        self.info = info

    async def complete(self, completion: Completion) -> Reply:
        self._fail(f"a request that ends with {completion.messages[-1].content[-80:]!r}")

    async def count_tokens(self, text: str) -> int:
        self._fail(f"the tokens of a text that ends with {text[-80:]!r}")

    async def chat(self, body: JsonObject) -> JsonObject:
        self._fail(f"a chat with {', '.join(body)}")

    def chat_stream(self, body: JsonObject) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        self._fail(f"a stream with {', '.join(body)}")

    def _fail(self, what: str) -> NoReturn:
        raise _NotRecorded(f"the trace has no reply to {what}")


def _has_answer(trace: Trace) -> bool:
    """Say whether a run ended by itself: by what it said, and not by a clock or a signal."""
    return trace.answer is not None and trace.answer.stop not in (StopReason.CANCELLED, StopReason.TIME_LIMIT)


def _named(started: RunStarted, paths: Sequence[str]) -> dict[str, Document]:
    """Return the documents at these paths by the digest of their text."""
    of_the_run = {info.sha256 for info in started.documents}
    by_digest: dict[str, Document] = {}
    for path in paths:
        here = {text_sha256(one.text): one for one in load([path], strict=False, stdin=io.BytesIO()).documents}
        if not of_the_run & here.keys():
            names = ", ".join(info.name for info in started.documents[:_NAMED])
            more = len(started.documents) - _NAMED
            raise DocumentError(
                f"{path} has the text of no document of the run: it read {names}{f' and {more} more' * (more > 0)}",
                hint="name a file with the same text",
            )
        by_digest |= here
    return by_digest


def _document(info: DocumentInfo, named: Document | None) -> Document:
    if named is not None:
        return Document(info.name, named.text, named.path)
    hint = "name a file with the same text behind the trace, or ask again"
    if not info.path:
        raise DocumentError(
            f"the trace does not tell where {info.name} was read, and keeps no text of it: it came from standard input "
            "or from a program",
            hint=hint,
        )
    if not Path(info.path).exists():
        raise DocumentError(f"{info.path} is gone; the run read its document {info.name} there", hint=hint)
    (document,) = load([info.path], strict=False, stdin=io.BytesIO()).documents
    if (found := text_sha256(document.text)) != info.sha256:
        raise DocumentError(
            f"{info.path} has changed since the run began: its sha256 was {info.sha256[:16]}, now it is {found[:16]}",
            hint=hint,
        )
    return Document(info.name, document.text, info.path)


def _name(event: Event) -> str:
    told = [type(event).__name__]
    told += [f"{field} {getattr(event, field)}" for field in ("node", "turn", "number") if hasattr(event, field)]
    return ", ".join(told)
