"""What a jail may say, checked: frames become typed values here, or a WireError.

Everything a frame claims is bounded and compared with what the host knows; nothing else of it is used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from rlm_local.jail.wire import Json, WireError
from rlm_local.types import CallForm, CallKind, CellStatus, ChildAsk, Final, Span

SPANS_PER_CELL = 4096
SPAN_CHARS = 64_000  # search() prints at most some windows of 8,000 in one passage
ERROR_CHARS = 64_000  # the worker cuts a traceback far below
TEXTS_PER_QUERY = 4096
ARGS_CHARS = 1 << 20  # of a call's arguments as JSON: its labels, examples, schema
ASKS_PER_CALL = 64
SOURCES_PER_FINAL = 64
SOURCE_CHARS = 2_000  # of words that stand in no document

_KINDS = frozenset(map(str, CallKind))
_Kind = TypeVar("_Kind", int, str)


@dataclass(frozen=True, slots=True)
class Query:
    id: int
    cell_id: int
    texts: tuple[str, ...]
    form: CallForm


@dataclass(frozen=True, slots=True)
class Recurse:
    id: int
    cell_id: int
    asks: tuple[ChildAsk, ...]


@dataclass(frozen=True, slots=True)
class Spans:
    cell_id: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Done:
    cell_id: int
    status: CellStatus
    error: str
    stdout: str
    stdout_tail: str
    truncated_bytes: int
    final: Final | None


Message: TypeAlias = Query | Recurse | Spans | Done


def parse(frame: dict[str, Json], *, document_chars: Sequence[int], output_bytes: int) -> Message:
    """Return what a frame from a running cell says. Raises WireError for anything that no worker of ours sends.

    document_chars: lengths of the documents, the bounds of spans; output_bytes: the bound of stdout.
    """
    match frame.get("op"):
        case "query":
            _only(frame, "id", "cell_id", "kind", "texts", "args", "behind", "ahead")
            return Query(_get(frame, "id", int), _get(frame, "cell_id", int), _texts(frame["texts"]), _form(frame))
        case "recurse":
            _only(frame, "id", "cell_id", "asks")
            return Recurse(_get(frame, "id", int), _get(frame, "cell_id", int), _asks(frame["asks"], document_chars))
        case "spans":
            _only(frame, "cell_id", "spans")
            return Spans(_get(frame, "cell_id", int), _spans(frame["spans"], document_chars))
        case "done":
            _only(frame, "cell_id", "status", "error", "stdout", "stdout_tail", "stdout_bytes", "final")
            return _done(frame, document_chars, output_bytes)
        case other:
            raise WireError(f"the operation {other!r:.80} is not one that a jail may ask for")


def parse_waiting(frame: dict[str, Json]) -> None:
    """Take in that a worker waits for its documents."""
    _only(frame)
    if frame["op"] != "waiting":
        raise WireError(f"a worker that begins with {frame['op']!r:.80} does not wait for documents")


def parse_ready(frame: dict[str, Json]) -> str:
    """Return the version of Python that runs inside."""
    _only(frame, "python")
    if frame["op"] != "ready":
        raise WireError(f"a worker that begins with {frame['op']!r:.80} is not ours")
    return _get(frame, "python", str)


def _done(frame: dict[str, Json], document_chars: Sequence[int], output_bytes: int) -> Done:
    head, tail = _get(frame, "stdout", str), _get(frame, "stdout_tail", str)
    kept = len(head.encode("utf-8")) + len(tail.encode("utf-8"))
    printed = _get(frame, "stdout_bytes", int)
    if kept > output_bytes or printed < kept or (printed > kept) is not (printed > output_bytes):
        raise WireError(f"{kept} bytes of stdout of {printed}, but {output_bytes} may leave")
    status = _get(frame, "status", str)
    if status not in ("ok", "raised", "timeout", "out_of_memory"):
        raise WireError(f"a cell ended as {status!r:.80}")
    if len(_get(frame, "error", str)) > ERROR_CHARS:
        raise WireError(f"an error of more than {ERROR_CHARS} characters")
    return Done(
        cell_id=_get(frame, "cell_id", int),
        status=CellStatus(status),
        error=_get(frame, "error", str),
        stdout=head,
        stdout_tail=tail,
        truncated_bytes=printed - kept,
        final=_final(frame["final"], document_chars),
    )


def _final(value: Json, document_chars: Sequence[int]) -> Final | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"value", "sources"}:
        raise WireError("a final is an object with a value and its sources, or null")
    named = value["sources"]
    if not isinstance(named, list) or len(named) > SOURCES_PER_FINAL:
        raise WireError(f"the sources of a final are a list of at most {SOURCES_PER_FINAL}")
    spans, unfound = [], []
    for one in named:
        if not isinstance(one, str):
            spans.append(_bounded(one, document_chars))
        elif len(one) > SOURCE_CHARS:
            raise WireError(f"a source of {len(one)} characters that stands in no document; at most {SOURCE_CHARS}")
        else:
            unfound.append(one)
    return Final(value["value"], tuple(spans), tuple(unfound))


def _texts(value: Json) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= TEXTS_PER_QUERY:
        raise WireError(f"a query holds 1..{TEXTS_PER_QUERY} texts")
    return tuple(_typed("text", text, str) for text in value)


def _form(frame: dict[str, Json]) -> CallForm:
    """Read what a call is. What its arguments mean is not judged here, only that they are an object of some size."""
    kind, args = _get(frame, "kind", str), frame["args"]
    behind, ahead = _get(frame, "behind", int), _get(frame, "ahead", int)
    if kind not in _KINDS:
        raise WireError(f"a call of the kind {kind!r:.80}")
    if not isinstance(args, dict) or (args and len(json.dumps(args)) > ARGS_CHARS):
        raise WireError(f"arguments are an object of at most {ARGS_CHARS} characters")
    if behind < 0 or ahead < 0:
        raise WireError(f"{behind} texts before these and {ahead} after them")
    return CallForm(CallKind(kind), args, behind, ahead)


def _asks(value: Json, document_chars: Sequence[int]) -> tuple[ChildAsk, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= ASKS_PER_CALL:
        raise WireError(f"a cell asks children 1..{ASKS_PER_CALL} questions at a time")
    return tuple(_child_ask(item, document_chars) for item in value)


def _child_ask(value: Json, document_chars: Sequence[int]) -> ChildAsk:
    if not isinstance(value, dict) or set(value) != {"question", "context"}:
        raise WireError("a question to a child has question and context")
    question, context = _typed("question", value["question"], str), value["context"]
    if context is None:
        return ChildAsk(question)
    if not isinstance(context, dict) or len(context) != 1:
        raise WireError("the context of a child is its spans, or its text, or null")
    if "text" in context:
        return ChildAsk(question, text=_typed("text", context["text"], str))
    spans = context.get("spans")
    if not isinstance(spans, list) or not 1 <= len(spans) <= SPANS_PER_CELL:
        raise WireError(f"the spans of a child are a list of 1..{SPANS_PER_CELL}")
    return ChildAsk(question, tuple(_bounded(item, document_chars) for item in spans))


def _spans(value: Json, document_chars: Sequence[int]) -> tuple[Span, ...]:
    if not isinstance(value, list) or len(value) > SPANS_PER_CELL:
        raise WireError(f"spans are a list of at most {SPANS_PER_CELL}")
    return tuple(_span(item, document_chars) for item in value)


def _span(value: Json, document_chars: Sequence[int]) -> Span:
    span = _bounded(value, document_chars)
    if span.end - span.start > SPAN_CHARS:
        raise WireError(f"a span of {span.end - span.start} characters, but no search prints more than {SPAN_CHARS}")
    return span


def _bounded(value: Json, document_chars: Sequence[int]) -> Span:
    if not isinstance(value, list) or len(value) != 3:
        raise WireError("a span is document, start and end")
    document, start, end = (_typed("span", number, int) for number in value)
    if not 0 <= document < len(document_chars) or not 0 <= start < end <= document_chars[document]:
        raise WireError(f"the span {start}..{end} of document {document} lies outside of it")
    return Span(document, start, end)


def _only(frame: dict[str, Json], *names: str) -> None:
    if set(frame) != {"op", *names}:
        raise WireError(f"a {frame.get('op')!r:.80} frame has {', '.join(sorted(names))}, and nothing else")


def _get(frame: dict[str, Json], name: str, kind: type[_Kind]) -> _Kind:
    return _typed(name, frame[name], kind)


def _typed(name: str, value: Json, kind: type[_Kind]) -> _Kind:
    # A bool is an int to isinstance, and to nobody else.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise WireError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
    return value
