"""What a run tells as it happens. A trace file is these, one a line; a live view draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rlm_local.limits import Limits
from rlm_local.types import Answer, GrammarMode, JsonValue, Page, SubCall, Turn


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document as a trace names it: never its text."""

    name: str
    chars: int
    sha256: str  # of the UTF-8 text


@dataclass(frozen=True, slots=True)
class RunStarted:
    question: str
    model: str
    weights_sha256: str
    profile: str  # name of the prompt profile
    documents: tuple[DocumentInfo, ...]
    limits: Limits
    grammar: GrammarMode
    answer_schema: JsonValue
    window_tokens: int
    version: str  # of rlm-local


@dataclass(frozen=True, slots=True)
class TurnStarted:
    number: int  # 1-based
    state: str  # which grammar state the turn is held to


@dataclass(frozen=True, slots=True)
class TurnWritten:
    """The root's reply is complete; its cell, if it has one, runs next."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class SubCallDone:
    turn: int
    subcall: SubCall


@dataclass(frozen=True, slots=True)
class PageDone:
    """Items of a typed call are through: all that is kept of them, for they can be a quarter of a million."""

    turn: int
    page: Page


@dataclass(frozen=True, slots=True)
class TurnTaken:
    number: int
    turn: Turn
    observation: str  # what the model reads of it; empty for an accepted final


@dataclass(frozen=True, slots=True)
class RunEnded:
    answer: Answer


Event: TypeAlias = RunStarted | TurnStarted | TurnWritten | SubCallDone | PageDone | TurnTaken | RunEnded
