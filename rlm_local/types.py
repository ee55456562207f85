"""The nouns of a run: immutable values that the floors hand to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from rlm_local.limits import Limits
from rlm_local.price import Cost, Price

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class StopReason(StrEnum):
    """Why a run ended."""

    FINAL = "final"
    TURN_LIMIT = "turn_limit"
    TOKEN_LIMIT = "token_limit"
    TIME_LIMIT = "time_limit"
    COST_LIMIT = "cost_limit"
    WINDOW_LIMIT = "window_limit"  # the root's own conversation no longer fits the model's window
    NO_PROGRESS = "no_progress"  # it went round in a circle, was told so, and went on
    CANCELLED = "cancelled"


class ReplyStop(StrEnum):
    """Why the engine stopped generating."""

    COMPLETE = "complete"  # end-of-turn token, or the grammar allows nothing more
    LENGTH = "length"  # max_tokens reached: the text may be cut anywhere
    CLOSED = "closed"  # max_tokens came near, and the engine wrote the shortest end that the grammar allows


class Route(StrEnum):
    """How a question is answered."""

    AUTO = "auto"  # directly where that is known to be at least as good, else by a run
    RLM = "rlm"  # by a root model that writes code
    DIRECT = "direct"  # by one request that holds question and documents


class GrammarMode(StrEnum):
    """How much of a root's turn the grammar decides."""

    OFF = "off"  # nothing: what a model writes by itself, for comparison
    SKELETON = "skeleton"  # prose, one block of closed strings and brackets, or a final
    PYTHON = "python"  # and the block compiles


DEFAULT_GRAMMAR = GrammarMode.PYTHON


class AnswerProtocol(StrEnum):
    """How a root says its answer: what its prompt teaches and its grammar accepts. Published weights differ in it."""

    FINAL = "final"  # FINAL(<literal>) or FINAL_VAR(<name>), outside of code
    PLAIN_FINAL = "plain_final"  # the same, with bare text in FINAL(...)
    ANSWER = "answer"  # in code: answer["content"] = ..., answer["ready"] = True
    FINAL_CALL = "final_call"  # in code: FINAL(...) or FINAL_VAR("name")
    SUBMIT = "submit"  # in code: SUBMIT(...)

    @property
    def is_in_code(self) -> bool:
        return self not in (AnswerProtocol.FINAL, AnswerProtocol.PLAIN_FINAL)


DEFAULT_PROTOCOL = AnswerProtocol.FINAL


class CellStatus(StrEnum):
    OK = "ok"
    RAISED = "raised"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"  # the worker died for another reason; the session was rebuilt by replay


class Text(Protocol):
    """A text that may be too long to be copied: a str, or a view of memory that holds it (rlm_local.texts).

    str(text) is all of it.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> str: ...

    def find(self, piece: str, start: int | None = ..., end: int | None = ..., /) -> int: ...


@dataclass(frozen=True, slots=True)
class Document:
    """One text that a question is asked of. `name` is unique within a request."""

    name: str
    text: Text
    path: str = ""  # absolute, of the file that it was read from; empty for what was no file


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents of a request joined to the one text that a root's code sees as `context`."""

    documents: tuple[Document, ...]
    context: Text  # every document under a header line with its name
    starts: tuple[int, ...]  # where documents[i].text begins in context, characters


@dataclass(frozen=True, slots=True)
class Span:
    """Characters start..end (end exclusive) of the document with this index in the request."""

    document: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that the host cut out of the document itself, word for word."""

    document: str  # the document's name
    start: int  # characters from the document's beginning
    end: int  # exclusive
    line: int  # 1-based line on which the quote begins
    quote: str


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them."""

    prompt_tokens: int = 0  # includes cached_tokens
    cached_tokens: int = 0  # part of prompt_tokens that was not computed again
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens - other.prompt_tokens,
            self.cached_tokens - other.cached_tokens,
            self.completion_tokens - other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    temperature: float = 0.0  # 0 takes the likeliest token
    top_p: float = 1.0
    top_k: int = 0  # 0 keeps all
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One request to an engine."""

    messages: tuple[Message, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    grammar: str | None = None  # in the dialect that the engine names (EngineInfo.grammar_dialect)
    scope: str = ""  # requests of different scopes share nothing that was computed, but for
    public_messages: int = 0  # so many first messages, which hold nobody's words; of an engine that cannot, nothing
    depth: int = 0  # levels below the root of the run; where two wait, the deeper goes first
    close_at_limit: bool = False  # max_tokens ends a sentence of what holds the reply; only where EngineInfo.can_close
    # At most one of these and `grammar` holds a reply.
    choices: tuple[str, ...] = ()  # the reply is one of them, with the probability of each where it can be scored
    regex: str = ""
    json_schema: str = ""  # as JSON text


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    stop: ReplyStop
    usage: Usage
    closed_text: str = ""  # the end of text that the engine wrote, not the model; goes with CLOSED
    logprobs: tuple[float, ...] = ()  # of Completion.choices, in their order; empty where they were not scored


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a running engine says of itself."""

    model: str  # the card's name
    window_tokens: int  # prompt + completion of one request
    grammar_dialect: str  # "lark" (llguidance); others come with other engines
    can_close: bool = False  # serves Completion.close_at_limit
    tells_spent: bool = False  # of a request that was cancelled; and knows depth and public_messages


@dataclass(frozen=True, slots=True)
class Cell:
    """Python that the root wrote, without its fence."""

    code: str


@dataclass(frozen=True, slots=True)
class Final:
    """An answer, already a value.

    sources: passages that FINAL(..., sources=[...]) names, bounds checked by the host. unfound: words that it names and
    that no document holds.
    """

    value: JsonValue
    sources: tuple[Span, ...] = ()
    unfound: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FinalVar:
    """An answer that is the value of a REPL variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A turn that is neither a cell nor a final: cut by its token limit, or from an engine without grammar."""

    reason: str  # one sentence for the model


Action: TypeAlias = Cell | Final | FinalVar | Malformed


class CallKind(StrEnum):
    """What code in a cell can ask of a sub-model; the name of each is llm_<kind>."""

    QUERY = "query"  # a prompt each
    CLASSIFY = "classify"  # an item each, as all below
    EXTRACT = "extract"
    MAP = "map"
    FILTER = "filter"
    REDUCE = "reduce"


@dataclass(frozen=True, slots=True)
class CallForm:
    """How the texts of a call are to be answered."""

    kind: CallKind = CallKind.QUERY
    args: Mapping[str, JsonValue] = field(default_factory=dict)  # from the jail: checked by whoever serves the call
    behind: int = 0  # texts of the same call that came before these
    ahead: int = 0  # and that will come after them


@dataclass(frozen=True, slots=True)
class SubCall:
    """One text given to a sub-model: a prompt of llm_query, or an item of another call, and what came back."""

    prompt: str
    answer: str  # empty when refused
    usage: Usage
    refused: str = ""  # one sentence, when there is no answer (budget, window, a reply that was cut)
    typed: bool = False  # the cell gets `value` and not the answer's text
    value: JsonValue = None
    node: str = ""  # the child that worked on it; empty for a plain call

    @property
    def result(self) -> JsonValue:
        """What the cell gets."""
        return self.value if self.typed else self.answer


@dataclass(frozen=True, slots=True)
class ChildAsk:
    """A question that a cell gives to a child: over spans of its own documents, over a text, or over all it has."""

    question: str
    spans: tuple[Span, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that came back without a value."""

    item: int  # its place in the page
    why: str  # one sentence


@dataclass(frozen=True, slots=True)
class Page:
    """Items of one call that came in one frame, and their values: None at those that failed."""

    kind: CallKind
    args: JsonValue
    items: tuple[str, ...]
    values: tuple[JsonValue, ...]
    failures: tuple[Failure, ...]
    usage: Usage


def page_of(items: Sequence[str], form: CallForm, subcalls: Sequence[SubCall]) -> Page:
    """Return what is kept of a typed call's frame: of llm_reduce one value for all of its texts."""
    return Page(
        kind=form.kind,
        args=dict(form.args),
        items=tuple(items),
        values=tuple(None if one.refused else one.result for one in subcalls),
        failures=tuple(Failure(at, one.refused) for at, one in enumerate(subcalls) if one.refused),
        usage=sum((one.usage for one in subcalls), Usage()),
    )


def page_subcalls(page: Page) -> list[SubCall]:
    """Return a page's values as they went to the cell; what each of them cost is not kept."""
    why = {failure.item: failure.why for failure in page.failures}
    return [SubCall("", "", Usage(), why.get(at, ""), typed=True, value=value) for at, value in enumerate(page.values)]


@dataclass(frozen=True, slots=True)
class CellResult:
    """What the host saw of one executed cell."""

    status: CellStatus
    stdout: str  # whole, or its head when truncated_bytes > 0
    stdout_tail: str = ""  # the end of a truncated stdout
    truncated_bytes: int = 0  # UTF-8 bytes between head and tail that did not leave the jail
    error: str = ""  # the traceback as Python prints it, cell lines only
    spans: tuple[Span, ...] = ()  # passages that search() printed, bounds checked by the host
    subcalls: tuple[SubCall, ...] = ()
    pages: tuple[Page, ...] = ()  # of its typed calls, a frame each
    facts: JsonValue = None  # variables that it found as they then were, by name
    final: Final | None = None  # the cell called FINAL / FINAL_VAR, or set answer["ready"]
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply of the root and what became of it."""

    text: str
    action: Action
    usage: Usage
    result: CellResult | None = None  # None where nothing ran: a literal final, a malformed turn
    closed_text: str = ""  # the end of text that the engine wrote because the turn's tokens were spent


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters start..end (end exclusive) of a document."""

    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)  # a damaged trace may have any two numbers


@dataclass(frozen=True, slots=True)
class DocumentCoverage:
    """Who has read which characters of a document: each of them stands in one of the four."""

    document: str  # its name
    chars: int
    printed: tuple[Stretch, ...] = ()  # shown to the root
    given: tuple[Stretch, ...] = ()  # to a sub-model, and not printed
    searched: tuple[Stretch, ...] = ()  # by code only
    untouched: tuple[Stretch, ...] = ()

    @property
    def read_chars(self) -> int:
        """Characters that a model has read."""
        return sum(map(len, (*self.printed, *self.given)))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run comes back with, confirmed or not."""

    value: JsonValue  # None when nothing was found
    stop: StopReason
    confirmed: bool
    reason: str = ""  # for an unconfirmed answer: one sentence why
    citations: tuple[Citation, ...] = ()
    unfound: tuple[str, ...] = ()  # words that the model named as its source, and that no document holds
    usage: Usage = Usage()
    subcalls: int = 0
    turns: int = 0
    wall_s: float = 0.0
    remembered: int = 0  # requests that were answered from memory, at no cost
    coverage: tuple[DocumentCoverage, ...] = ()  # of each document
    route: Route = Route.RLM  # never AUTO: what was chosen
    price: Price | None = None  # of its tokens, where the model's card or the caller has a price list

    @property
    def cost(self) -> Cost | None:
        """What its tokens cost; None without a price list."""
        if self.price is None:
            return None
        usage = self.usage
        amount = self.price.cost(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        return Cost(amount, self.price.currency)

    @property
    def read_share(self) -> float:
        """Share of all characters that a model has read; 1 where there are none."""
        chars = sum(one.chars for one in self.coverage)
        return sum(one.read_chars for one in self.coverage) / chars if chars else 1.0

    @property
    def text(self) -> str:
        """The value as a person reads it: strings bare, all else as Python writes it."""
        return self.value if isinstance(self.value, str) else repr(self.value)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `rlm-local doctor`."""

    name: str
    ok: bool
    detail: str  # what was found: a version, a path, a number
    required: bool = True  # a missing required layer ends a run; others are named and lived without
    hint: str = ""  # how to mend it; empty when ok


@dataclass(frozen=True, slots=True)
class Request:
    question: str
    documents: tuple[Document, ...]
    limits: Limits = field(default_factory=Limits)
    grammar: GrammarMode = DEFAULT_GRAMMAR
    answer_schema: JsonValue = None  # a JSON schema that the answer must keep; None for any answer
    require_coverage: float = 0.0  # share of all characters that models must have read for a confirmed answer
    route: Route = Route.RLM
