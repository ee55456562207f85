"""What a caller may give: settings of a model, documents in several shapes, and the options of one question."""

from __future__ import annotations

import asyncio
import io
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, TypeVar

from rlm_local.controller import Validate
from rlm_local.documents import load
from rlm_local.errors import ConfigError
from rlm_local.limits import Limits
from rlm_local.texts import is_blank
from rlm_local.types import Document, GrammarMode, JsonObject, JsonValue, Route

Documents: TypeAlias = "Path | Document | Mapping[str, str] | Sequence[Path | Document]"
"""Files and folders by their Path, texts as Document(name, text), or {name: text}. A bare str is none of them: nobody
could tell a path from a text."""

Validator: TypeAlias = Callable[[Any], object]
"""Checks an answer's value: raises ValueError, in whose words the model is told what is wrong, or returns. It may be
`Model.model_validate` of pydantic. It runs in a thread."""

COMPLAINT_CHARS = 1_000
_WRONG_DOCUMENTS = "documents must be Paths and Documents, or a dict from name to text"

E = TypeVar("E", bound=Enum)


class Settings(TypedDict, total=False):
    """How a model is run."""

    home: Path  # of weights and sockets; default: what the environment says, see rlm_local.config
    window_tokens: int  # prompt + completion of one request; default: see rlm_local.runtime
    kv_tokens: int  # that the engine keeps in memory; default: two windows, or what memory allows


class Options(TypedDict, total=False):
    """How one question is answered."""

    limits: Limits  # default: Limits() at the depth of the model's profile
    schema: JsonObject  # JSON schema that the answer must keep
    validator: Validator  # the caller's own check of the answer; the model may mend it once
    grammar: GrammarMode
    route: Route  # default: Route.AUTO, as the model's card was measured for
    require_coverage: float  # share of all characters that models must have read for a confirmed answer
    ask_before: int  # sub-calls of one step; for more the run stops with FanOutHeld, and can be resumed from its trace
    strict: bool  # refuse files that are not valid UTF-8
    trace: Path  # a new file that keeps the run, so that it can be resumed; default: none


def one_of(kind: type[E], name: str, value: E | str) -> E:
    """Return a member of an enum that was given as itself or by its value. Raises ConfigError."""
    try:
        return kind(value)
    except ValueError as error:
        said = f"{name} is {value!r}, but must be one of {', '.join(str(one.value) for one in kind)}"
        raise ConfigError(said) from error


def read_documents(given: Documents, *, strict: bool) -> tuple[Document, ...]:
    """Return documents; what a file's text lost is warned of. Raises ConfigError, DocumentError."""
    if isinstance(given, Mapping):
        if not all(isinstance(one, str) for pair in given.items() for one in pair):
            raise ConfigError(_WRONG_DOCUMENTS, hint="names and texts are str; decode bytes first")
        documents = [Document(name, text) for name, text in given.items()]
    else:
        items = [given] if isinstance(given, Path | Document) else given
        is_list = isinstance(items, Sequence) and not isinstance(items, str | bytes)
        if not is_list or not all(isinstance(item, Path | Document) for item in items):
            raise ConfigError(
                _WRONG_DOCUMENTS, hint="write Path(...) for a file or folder, and {name: text} for a text"
            )
        paths = [str(item) for item in items if isinstance(item, Path)]
        loaded = load(paths, strict=strict, stdin=io.BytesIO()) if paths else None
        for warning in loaded.warnings if loaded else ():
            warnings.warn(warning, stacklevel=2)
        documents = [*(loaded.documents if loaded else ()), *(item for item in items if isinstance(item, Document))]
    if not documents:
        raise ConfigError("no documents given", hint="name files or folders, or give texts by name")
    times_of = Counter(document.name for document in documents)
    if twice := next((name for name, times in times_of.items() if times > 1), None):
        raise ConfigError(f"two documents have the name {twice!r}; name each differently")
    if empty := next((document.name for document in documents if is_blank(document.text)), None):
        raise ConfigError(f"the document {empty!r} has no text")
    return tuple(documents)


def checking(validator: Validator | None) -> Validate | None:
    """Return a caller's check as the controller has it."""
    if validator is None:
        return None

    async def validate(value: JsonValue) -> str:
        try:
            await asyncio.to_thread(validator, value)
        except ValueError as error:
            return str(error)[:COMPLAINT_CHARS] or type(error).__name__
        return ""

    return validate
