"""What the API answers, as its OpenAPI document tells it. Nothing is made of these: tests hold the answers to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from rlm_local.server.run_rows import RunState
from rlm_local.types import StopReason


class Exactly(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AtLeast(BaseModel):
    """Of the engine's making, which may tell more."""

    model_config = ConfigDict(extra="allow")


class ErrorTold(Exactly):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(Exactly):
    error: ErrorTold


class Health(Exactly):
    status: Literal["ok"]


class Places(Exactly):
    running: int
    waiting: int
    most: int


class Readiness(Exactly):
    status: Literal["loading", "ready", "stopping"]
    model: str
    runs: Places
    direct: Places


class Model(Exactly):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int | None


class ModelList(Exactly):
    object: Literal["list"]
    data: list[Model]


class File(Exactly):
    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]


class FileList(Exactly):
    object: Literal["list"]
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(Exactly):
    id: str
    object: Literal["file", "rlm.run"]
    deleted: Literal[True]


class CachedTokens(AtLeast):
    cached_tokens: int


class Usage(AtLeast):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens | None = None


class State(Exactly):
    object: Literal["rlm.state"]
    status: Literal["loading", "ready", "stopping"]
    version: str
    models: list[str]
    window_tokens: int | None
    runs: Places
    direct: Places
    usage: Usage


class ChatAnswer(AtLeast):
    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    annotations: list[dict[str, Any]] | None = None


class ChatChoice(AtLeast):
    index: int
    message: ChatAnswer
    finish_reason: str | None


class ChatCompletion(AtLeast):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    rlm: dict[str, Any] | None = None


class ModelResponse(AtLeast):
    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None
    rlm: dict[str, Any] | None = None


class RunCitation(AtLeast):
    filename: str
    quote: str
    start: int
    end: int
    line: int
    before: str | None = None
    after: str | None = None


class Cost(Exactly):
    amount: float
    currency: str  # as ISO 4217 writes it


class RunAnswer(Exactly):
    value: Any
    confirmed: bool
    stop: StopReason
    reason: str
    turns: int
    subcalls: int
    wall_s: float
    citations: list[RunCitation]
    unfound: list[str] = []  # words that the model named as its source, and that no document holds
    usage: Usage
    cost: Cost | None = None  # where the model's card has a price list


class Run(Exactly):
    id: str
    object: Literal["rlm.run"]
    status: RunState
    model: str
    question: str
    attempt: int
    created_at: int
    started_at: int | None
    ended_at: int | None
    answer: RunAnswer | None
    error: ErrorTold | None


class RunList(Exactly):
    object: Literal["list"]
    data: list[Run]
    has_more: bool
