"""The body of /v1/rlm/runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Field, Tag

from rlm_local.errors import RlmError
from rlm_local.grammar import AnswerSchema
from rlm_local.server.chat_request import FileRef, RunBounds, Strict
from rlm_local.server.conversation import unique
from rlm_local.server.files import Files
from rlm_local.server.problem import Problem, problem_of
from rlm_local.server.quotas import KeyLimits
from rlm_local.texts import utf8_bytes
from rlm_local.types import Document, Request

MAX_DOCUMENTS = 1_000


class InlineDocument(Strict):
    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")] = "document"
    text: Annotated[str, Field(min_length=1)]


RunDocument: TypeAlias = Annotated[
    Annotated[InlineDocument, Tag("Inline")] | Annotated[FileRef, Tag("File")],
    Discriminator(lambda given: "File" if "file_id" in _fields(given) else "Inline"),
]


class RunBody(Strict):
    model: Annotated[str, Field(max_length=200)] | None = None
    question: Annotated[str, Field(min_length=1, max_length=20_000)]
    documents: Annotated[list[RunDocument], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    limits: RunBounds = Field(default_factory=RunBounds)
    answer_schema: dict[str, Any] | None = None
    require_coverage: Annotated[float, Field(ge=0, le=1)] = 0.0  # of all characters, for a confirmed answer

    @property
    def file_ids(self) -> tuple[str, ...]:
        return tuple(each.file_id for each in self.documents if isinstance(each, FileRef))

    def check(self) -> None:
        """Raise Problem (400) for what could not begin: an empty question, limits that contradict, an odd schema."""
        if not self.question.strip():
            raise Problem(400, "the question is empty", param="question")
        self.limits.limits()
        if self.answer_schema is not None:
            try:
                AnswerSchema(self.answer_schema)
            except RlmError as error:
                raise problem_of(error) from error

    def check_sizes(self, limits: KeyLimits) -> None:
        """Raise Problem (413) for a text that is larger than the caller's key takes."""
        for each in self.documents:
            if isinstance(each, InlineDocument):
                limits.check_document(utf8_bytes(each.text), each.name)

    def request(self, files: Files, tenant: str) -> Request:
        """Return this as a run takes it, with its files read; raises what Files.documents raises."""
        brought: Iterator[Document] = iter(files.documents(tenant, self.file_ids))
        documents = [
            Document(each.name, each.text) if isinstance(each, InlineDocument) else next(brought)
            for each in self.documents
        ]
        return Request(
            self.question.strip(),
            unique(documents),
            self.limits.limits(),
            self.limits.mode,
            self.answer_schema,
            self.require_coverage,
        )


def _fields(given: Any) -> Any:
    return given if isinstance(given, dict) else getattr(given, "model_fields_set", ())
