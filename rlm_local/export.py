"""Traces as training data: the conversations of a run's nodes, and which characters of them the model itself wrote.

A trace keeps no opening messages; they are made again from the same prompts and checked against the digests that the
run left when it counted their tokens, so what is exported is what the model read, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from rlm_local.cards import find_card, load_cards
from rlm_local.controller.conversation import SAMPLE_CHARS
from rlm_local.controller.recurse import subcall_window
from rlm_local.controller.remember import text_digest
from rlm_local.documents import joined_chars
from rlm_local.errors import TraceError
from rlm_local.events import (
    ROOT,
    DocumentInfo,
    NodeEnded,
    NodeStarted,
    Routed,
    RunEnded,
    RunStarted,
    SubCallDone,
    TokensCounted,
    TurnTaken,
)
from rlm_local.limits import Limits
from rlm_local.plan import profile_of
from rlm_local.prompts import Profile, Situation, opening_messages, subcall_messages
from rlm_local.resume import packages_of
from rlm_local.trace import Trace
from rlm_local.types import Answer, JsonObject, JsonValue, Message, Role, Route


@dataclass(frozen=True, slots=True)
class _Node:
    id: str
    question: str
    documents: tuple[DocumentInfo, ...]
    limits: Limits
    answer_schema: JsonValue = None
    head: str = ""


def sft(trace: Trace) -> Iterator[JsonObject]:
    """Yield a conversation for each node of a run, and one for each sub-call.

    {"run", "node", "kind": "turns" or "subcall", "messages", "answer", "confirmed"}; a message is {"role", "content",
    "own"}, where own has the ranges [start, end] of characters that the model wrote in this run: train on these alone.
    Raises TraceError for a run whose prompts are not those of this build.
    """
    run = _Run(trace)
    for node in run.nodes():
        answer = run.answers.get(node.id)
        yield {
            "run": trace.path.name,
            "node": node.id,
            "kind": "turns",
            "messages": [*map(_told, run.opening(node)), *run.turns(node.id)],
            "answer": None if answer is None else answer.value,
            "confirmed": answer is not None and answer.confirmed,
        }
    for event in trace.events:
        if isinstance(event, SubCallDone) and not (event.subcall.refused or event.subcall.node):
            prompt = [_told(message) for message in subcall_messages(run.profile, event.subcall.prompt)]
            reply: JsonObject = {"role": Role.ASSISTANT.value, "content": event.subcall.answer}
            reply["own"] = [[0, len(event.subcall.answer)]]
            yield {"run": trace.path.name, "node": event.node, "kind": "subcall", "messages": [*prompt, reply]}


def rl(trace: Trace, reward: float | None = None) -> Iterator[JsonObject]:
    """Yield a step for each turn of a run: {"run", "node", "step", "messages", "completion", "own", "reward", "done"}.

    messages: what the model read; completion: what it wrote, of which own has its own characters. reward: a scorer's
    value of the root's answer; its last step has it and all others 0. Without one all are null.
    """
    run = _Run(trace)
    for node in run.nodes():
        messages: list[JsonValue] = [_told(message) for message in run.opening(node)]
        turns = list(run.turns(node.id))
        replies = [at for at, message in enumerate(turns) if message["role"] == Role.ASSISTANT.value]
        for step, at in enumerate(replies, start=1):
            is_last = at == replies[-1]
            gained = reward if is_last and node.id == ROOT else 0.0
            yield {
                "run": trace.path.name,
                "node": node.id,
                "step": step,
                "messages": [*messages, *turns[:at]],
                "completion": turns[at]["content"],
                "own": turns[at]["own"],
                "reward": None if reward is None else gained,
                "done": is_last,
            }


class _Run:
    """What a trace holds, by node."""

    def __init__(self, trace: Trace) -> None:
        started = trace.events[0]
        if not isinstance(started, RunStarted):
            raise TraceError(f"{trace.path} does not begin with the start of a run")
        if any(isinstance(event, Routed) and event.route is Route.DIRECT for event in trace.events):
            raise TraceError(f"{trace.path}: its one request held the documents, and a trace keeps no text of them")
        self.profile: Profile = profile_of(find_card(started.model, load_cards()), packages_of(started))
        if (started.profile, started.prompts_sha256) != (self.profile.name, self.profile.sha256):
            raise TraceError(
                f"{trace.path}: its prompts are {started.profile} {started.prompts_sha256[:16]}, and this build has "
                f"{self.profile.name} {self.profile.sha256[:16]}",
                hint=f"export it with rlm-local {started.version}",
            )
        self._started = started
        self._trace = trace
        self._counts = {event.text: event.tokens for event in trace.events if isinstance(event, TokensCounted)}
        self.answers: dict[str, Answer] = {}
        for event in trace.events:
            if isinstance(event, NodeEnded | RunEnded):
                self.answers[event.node if isinstance(event, NodeEnded) else ROOT] = event.answer

    def nodes(self) -> Iterator[_Node]:
        """Yield the nodes that have taken a turn."""
        taken = {event.node for event in self._trace.events if isinstance(event, TurnTaken)}
        first = self._started
        if ROOT in taken:
            yield _Node(ROOT, first.question, first.documents, first.limits, first.answer_schema, first.head)
        for event in self._trace.events:
            if isinstance(event, NodeStarted) and event.node in taken:
                yield _Node(event.node, event.question, event.documents, event.limits, head=event.head)

    def turns(self, node: str) -> Iterator[JsonObject]:
        """Yield a node's replies, each followed by what it was told of it."""
        for event in self._trace.events:
            if isinstance(event, TurnTaken) and event.node == node:
                yield _reply(event)
                if event.observation:
                    yield _told(Message(Role.USER, event.observation))

    def opening(self, node: _Node) -> tuple[Message, ...]:
        """Return the messages before a node's first turn. Raises TraceError when they cannot be made again."""
        system_tokens = self._counts.get(text_digest(self.profile.subcall), 0)
        window = subcall_window(self._started.engine.window_tokens, node.limits.subcall_tokens, system_tokens)
        names = tuple(info.name for info in node.documents)
        chars = joined_chars(names, [info.chars for info in node.documents])
        # How dense the documents are was counted of their beginning, which a trace does not name: one of its counts.
        for tokens in dict.fromkeys(self._counts.values()):
            per_token = min(chars, SAMPLE_CHARS) / max(1, tokens)
            messages = opening_messages(
                self.profile,
                Situation(
                    question=node.question,
                    document_names=names,
                    context_chars=chars,
                    subcall_tokens=window,
                    subcall_chars=int(window * per_token) // 1000 * 1000,
                    turns=node.limits.max_turns,
                    head=node.head,
                    answer_schema=""
                    if node.answer_schema is None
                    else json.dumps(node.answer_schema, ensure_ascii=False),
                ),
            )
            if text_digest(messages[-1].content) in self._counts:
                return messages
        raise TraceError(f"{self._trace.path}: the first message of node {node.id} cannot be made again")


def _told(message: Message) -> JsonObject:
    return {"role": message.role.value, "content": message.content, "own": []}


def _reply(event: TurnTaken) -> JsonObject:
    text, closed = event.turn.text, event.turn.closed_text
    own = len(text) - len(closed) if closed and text.endswith(closed) else len(text)
    return {"role": Role.ASSISTANT.value, "content": text, "own": [[0, own]] if own else []}
