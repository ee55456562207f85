"""The body of /v1/chat/completions. A field that is not served is refused by its name, never ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from rlm_local.errors import ConfigError
from rlm_local.limits import MAX_DEPTH, Limits, writing_at_most
from rlm_local.server.problem import Problem
from rlm_local.types import DEFAULT_GRAMMAR, GrammarMode, JsonObject, JsonValue, Sampling

MAX_MESSAGES = 1_000
MAX_PARTS = 200
_SEED = (1 << 63) - 1
# What only the engine itself serves: a run has many replies, each with bounds of its own.
_DIRECT_ONLY = (
    "n",
    "stop",
    "logprobs",
    "top_logprobs",
    "structured_outputs",
    "top_k",
    "min_p",
    "repetition_penalty",
)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(Strict):
    type: Literal["text"]
    text: str


class FileRef(Strict):
    file_id: str = Field(max_length=100)


class FilePart(Strict):
    type: Literal["file"]
    file: FileRef


Part: TypeAlias = Annotated[TextPart | FilePart, Field(discriminator="type")]
Content: TypeAlias = str | Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]


class ChatMessage(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content


class StreamOptions(Strict):
    include_usage: bool = False


class NamedSchema(Strict):
    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class RunBounds(Strict):
    """Limits of the run behind a request; what is left out keeps its default."""

    max_turns: Annotated[int, Field(ge=2, le=64)] | None = None
    max_subcalls: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    max_prompt_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    max_cost: Annotated[float, Field(gt=0, le=1e12)] | None = None  # in the currency of the model's price list
    max_depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=4096)] | None = None
    max_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    grammar: Literal["off", "skeleton", "python"] | None = None

    def limits(self, completion_tokens: int | None = None) -> Limits:
        """Raises Problem (400) for limits that contradict. completion_tokens: a second bound on what is written."""
        names = (
            "max_turns",
            "max_subcalls",
            "max_tokens",
            "max_prompt_tokens",
            "max_cost",
            "max_depth",
            "max_concurrency",
        )
        fields: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.max_seconds is not None:
            fields["wall_s"] = self.max_seconds
        written = [bound for bound in (self.max_completion_tokens, completion_tokens) if bound is not None]
        try:
            limits = Limits(**fields)
            return writing_at_most(limits, min(written)) if written else limits
        except ConfigError as error:
            raise Problem(400, str(error), param="rlm" if completion_tokens is None else "max_tokens") from error

    @property
    def mode(self) -> GrammarMode:
        return DEFAULT_GRAMMAR if self.grammar is None else GrammarMode(self.grammar)


class ChatRequest(Strict):
    model: str = Field(max_length=200)
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, le=_SEED)] | None = None
    response_format: ResponseFormat | None = None
    rlm: RunBounds | None = None
    n: Annotated[int, Field(ge=1, le=64)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1 << 31)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1 << 31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    structured_outputs: dict[str, Any] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1 << 31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    # Many front ends send these two whether they mean them or not; what changes nothing is no lie.
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None

    @property
    def completion_tokens(self) -> int | None:
        """How many tokens may be written for this request: `usage.completion_tokens` of the answer is no more."""
        given = [bound for bound in (self.max_tokens, self.max_completion_tokens) if bound is not None]
        return min(given, default=None)

    @property
    def with_usage(self) -> bool:
        return bool(self.stream and self.stream_options and self.stream_options.include_usage)

    def check(self, *, direct: bool, model: str) -> None:
        """Raise Problem (400) for fields that this way of answering does not serve."""
        if self.stream_options is not None and not self.stream:
            raise Problem(400, "stream_options goes with stream: true only", param="stream_options")
        if direct:
            if self.rlm is not None:
                raise Problem(400, f"rlm goes with {model}, which answers by a run", param="rlm")
            if self.response_format and self.structured_outputs:
                raise Problem(400, "response_format and structured_outputs are one thing; send one of them")
            return
        if refused := [name for name in _DIRECT_ONLY if getattr(self, name) not in (None, False)]:
            if refused == ["n"] and self.n == 1:
                return
            raise Problem(
                400,
                f"not served by {model}, which answers by a run of many replies: {', '.join(refused)}; "
                f"bound the run by `rlm`, or ask {model}:direct",
                code="unsupported_field",
                param=refused[0],
            )

    def answer_schema(self) -> JsonValue:
        """Return the JSON schema of a run's answer, or None."""
        if self.response_format is None or self.response_format.type == "text":
            return None
        schema: JsonObject = {"type": "object"}
        return schema if self.response_format.type == "json_object" else self._schema(self.response_format)

    def sampling(self, usual: Sampling) -> Sampling:
        """Return how a run's root draws: what the request names, else the model's own."""
        return Sampling(
            temperature=usual.temperature if self.temperature is None else self.temperature,
            top_p=usual.top_p if self.top_p is None else self.top_p,
            top_k=usual.top_k,
            seed=usual.seed if self.seed is None else self.seed,
        )

    def engine_body(self, model: str, scope: str) -> JsonObject:
        """Return this request as the engine takes it, its messages left out. scope: of its cache."""
        passed = ("temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", *_DIRECT_ONLY)
        body: JsonObject = {name: value for name in passed if (value := getattr(self, name)) is not None}
        body |= {"model": model, "cache_salt": scope}
        if self.stream:
            body["stream"] = True
            if self.with_usage:
                body["stream_options"] = {"include_usage": True}
        form = self.response_format
        if form is not None and form.type != "text":
            schema: JsonValue = {"type": "object"} if form.type == "json_object" else self._schema(form)
            body["structured_outputs"] = {"json": schema}
        return body

    def _schema(self, form: ResponseFormat) -> JsonObject:
        if form.json_schema is None:
            raise Problem(400, "response_format.json_schema is missing", param="response_format")
        return form.json_schema.schema_
