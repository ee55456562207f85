"""What a run tells as it happens. A trace file is these, one a line; a live view draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rlm_local.limits import Limits
from rlm_local.types import (
    Answer,
    EngineInfo,
    GrammarMode,
    JsonValue,
    Page,
    Reply,
    Route,
    Sampling,
    Span,
    SubCall,
    Turn,
    Usage,
)

ROOT = "0"  # the root's node; its first child is "0.1", and that one's second "0.1.2"


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document as a trace names it: never its text."""

    name: str
    chars: int
    sha256: str  # of the UTF-8 text
    path: str = ""  # absolute, of the file that it was read from; empty for what was no file


@dataclass(frozen=True, slots=True)
class RunStarted:
    """All that a run is asked with, so that its trace alone lets it go on."""

    question: str
    model: str
    weights_sha256: str
    profile: str  # name of the prompt profile
    prompts_sha256: str  # of its texts
    sampling: Sampling  # of the root's turns
    documents: tuple[DocumentInfo, ...]
    limits: Limits
    grammar: GrammarMode
    answer_schema: JsonValue
    require_coverage: float
    engine: EngineInfo
    version: str  # of rlm-local
    jail_packages: tuple[str, ...] = ()  # that cells could import, as "numpy==2.4.6"
    head: str = ""  # of the first document, as far as the root was shown it before its first turn


@dataclass(frozen=True, slots=True)
class Routed:
    """Which way the question goes. Told where there was a choice."""

    route: Route
    reason: str


@dataclass(frozen=True, slots=True)
class RunResumed:
    """The run was interrupted before, and goes on from here."""

    resumed_at: str  # UTC, ISO 8601


@dataclass(frozen=True, slots=True)
class Replied:
    """The engine has answered a request, which from now on is never paid again."""

    node: str  # that asked
    turn: int
    request: str  # digest of all that decides the reply
    reply: Reply


@dataclass(frozen=True, slots=True)
class ItemReply:
    """The engine's reply to a request that a typed call has made."""

    request: str  # digest of all that decides the reply
    reply: Reply


@dataclass(frozen=True, slots=True)
class ItemsReplied:
    """Requests of typed calls that the engine has answered, those that came together in one event."""

    node: str  # that asked
    turn: int
    replies: tuple[ItemReply, ...]


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A request was cancelled; what it had come to cost."""

    node: str
    turn: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class TokensCounted:
    """The engine has counted a text's tokens."""

    text: str  # digest
    tokens: int


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A cell has given a question to a child. What the child does follows under its own node."""

    node: str
    parent: str
    turn: int  # of the parent
    question: str
    documents: tuple[DocumentInfo, ...]  # by name and size
    spans: tuple[Span, ...]  # of the parent's documents that they are; empty for all of them, or a text
    limits: Limits  # its share
    head: str = ""  # as for a run


@dataclass(frozen=True, slots=True)
class NodeEnded:
    node: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class TurnStarted:
    node: str
    number: int  # 1-based
    state: str  # which grammar state the turn is held to


@dataclass(frozen=True, slots=True)
class TurnWritten:
    """The model's reply is complete; its cell, if it has one, runs next."""

    node: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class SubCallDone:
    node: str  # that asked
    turn: int
    number: int  # in the turn, 1-based, in the order of asking; they may end in another one
    subcall: SubCall


@dataclass(frozen=True, slots=True)
class Spent:
    """What a turn's cell cost, the turn's own reply not counted; or a frame of a typed call."""

    subcalls: int = 0
    usage: Usage = Usage()
    remembered: int = 0  # requests that were answered from memory, at no cost


@dataclass(frozen=True, slots=True)
class PageDone:
    """Items of a typed call are through: all that is kept of them, for they can be a quarter of a million."""

    node: str  # that asked
    turn: int
    number: int  # in the turn, counted with the sub-calls
    page: Page
    spent: Spent = Spent()  # on the frame, what it learned from included


@dataclass(frozen=True, slots=True)
class TurnTaken:
    """A turn and what became of it. Its sub-calls are told by SubCallDone, so its result names none."""

    node: str
    number: int
    turn: Turn
    observation: str  # what the model reads of it; empty for an accepted final
    spent: Spent = Spent()
    elapsed_s: float = 0.0  # of the node, as the model was told: with this time it is gone through again


@dataclass(frozen=True, slots=True)
class Validated:
    """The caller's own check has judged an answer."""

    node: str
    turn: int  # that gave it
    complaint: str  # in the check's words; empty for an answer that it takes


@dataclass(frozen=True, slots=True)
class RunEnded:
    answer: Answer


Event: TypeAlias = (
    RunStarted
    | Routed
    | RunResumed
    | Replied
    | ItemsReplied
    | Abandoned
    | TokensCounted
    | NodeStarted
    | NodeEnded
    | TurnStarted
    | TurnWritten
    | SubCallDone
    | PageDone
    | TurnTaken
    | Validated
    | RunEnded
)
