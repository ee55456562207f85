"""The body of /v1/responses, which says in other words what one of /v1/chat/completions says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from rlm_local.server.chat_request import (
    MAX_MESSAGES,
    MAX_PARTS,
    ChatMessage,
    ChatRequest,
    FilePart,
    FileRef,
    NamedSchema,
    Part,
    ResponseFormat,
    RunBounds,
    StreamOptions,
    Strict,
    TextPart,
)
from rlm_local.server.problem import Problem
from rlm_local.types import JsonObject


class InputText(Strict):
    type: Literal["input_text"]
    text: str


class InputFile(Strict):
    type: Literal["input_file"]
    file_id: str = Field(max_length=100)


class OutputText(Strict):
    """What an earlier response said; its annotations say nothing that is not in the text."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]] = Field(default_factory=list)
    logprobs: list[dict[str, Any]] | None = None


# The tags begin with a capital, so that no error names them as if they were fields.
_PARTS = {"input_file": "File", "output_text": "Output"}
InputPart: TypeAlias = Annotated[
    Annotated[InputText, Tag("Text")] | Annotated[InputFile, Tag("File")] | Annotated[OutputText, Tag("Output")],
    Discriminator(lambda given: _PARTS.get(_type_of(given), "Text")),
]


class InputMessage(Strict):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[InputPart], Field(min_length=1, max_length=MAX_PARTS)]
    # Of a message that an earlier response held.
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: None = None


class ReasoningItem(Strict):
    """Of an earlier response: how its answer came about, which is not part of what is asked now."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: list[dict[str, Any]] = Field(default_factory=list)
    content: list[dict[str, Any]] | None = None
    encrypted_content: None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


InputItem: TypeAlias = Annotated[
    Annotated[InputMessage, Tag("Message")] | Annotated[ReasoningItem, Tag("Reasoning")],
    Discriminator(lambda given: "Reasoning" if _type_of(given) == "reasoning" else "Message"),
]


class TextFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextSettings(Strict):
    format: TextFormat | None = None


class ResponsesRequest(Strict):
    model: str = Field(max_length=200)
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_MESSAGES)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1 << 31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    text: TextSettings | None = None
    rlm: RunBounds | None = None
    # Read so that what is so without them may be said: nothing is kept, and nothing of the input is cut.
    store: bool | None = None
    background: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None

    def check(self) -> None:
        """Raise Problem (400) for what only a server that keeps responses, or cuts what it is asked, could do."""
        asked = {"store": self.store, "background": self.background, "truncation": self.truncation == "auto"}
        for name, is_meant in asked.items():
            if is_meant:
                said = f"not served: {name}; responses are not kept, and nothing of the input is left out"
                raise Problem(400, said, code="unsupported_field", param=name)

    def as_chat(self) -> ChatRequest:
        """Return the same as a chat. Raises Problem (400) for a form without its schema, and files that the user
        has not brought."""
        messages = list(self._messages())
        if not messages:
            raise Problem(400, "the input holds no message", param="input")
        return ChatRequest(
            model=self.model,
            messages=messages,
            stream=self.stream,
            stream_options=StreamOptions(include_usage=True) if self.stream else None,
            temperature=self.temperature,
            top_p=self.top_p,
            response_format=self._format(),
            rlm=self.rlm,
            max_completion_tokens=self.max_output_tokens,
        )

    def form(self) -> JsonObject:
        """Return the form of the text as a response tells it."""
        asked = self.text.format if self.text else None
        return asked.model_dump(by_alias=True, exclude_unset=True) if asked else {"type": "text"}

    @property
    def has_file(self) -> bool:
        items = [] if isinstance(self.input, str) else self.input
        return any(isinstance(part, InputFile) for item in items for part in _parts(item))

    def _messages(self) -> Iterator[ChatMessage]:
        if self.instructions:
            yield ChatMessage(role="developer", content=self.instructions)
        if isinstance(self.input, str):
            yield ChatMessage(role="user", content=self.input)
            return
        for index, item in enumerate(self.input):
            if isinstance(item, ReasoningItem):
                continue
            if item.role != "user" and any(isinstance(part, InputFile) for part in _parts(item)):
                said = f"input[{index}] is the {item.role}'s, but only the user brings files"
                raise Problem(400, said, param="input")
            content = item.content
            yield ChatMessage(
                role=item.role,
                content=content if isinstance(content, str) else [_chat_part(part) for part in content],
            )

    def _format(self) -> ResponseFormat | None:
        asked = self.text.format if self.text else None
        if asked is None or asked.type != "json_schema":
            return None if asked is None else ResponseFormat(type=asked.type)
        if asked.schema_ is None:
            raise Problem(400, "text.format.schema is missing", param="text.format")
        return ResponseFormat(type="json_schema", json_schema=NamedSchema(name=asked.name, schema=asked.schema_))


def _parts(item: InputMessage | ReasoningItem) -> list[InputText | InputFile | OutputText]:
    return [] if isinstance(item, ReasoningItem) or isinstance(item.content, str) else item.content


def _chat_part(part: InputText | InputFile | OutputText) -> Part:
    if isinstance(part, InputFile):
        return FilePart(type="file", file=FileRef(file_id=part.file_id))
    return TextPart(type="text", text=part.text)


def _type_of(given: Any) -> Any:
    return given.get("type") if isinstance(given, dict) else getattr(given, "type", None)
