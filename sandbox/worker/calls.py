"""llm_query and its relatives: texts to the host and values back, every item once and in order.

What a call means is the host's business. Here items become plain texts and pages of a frame's size, and what failed is
printed, so that the code's author sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from sandbox.worker.corpus import Document
from sandbox.worker.values import Json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

Ask: TypeAlias = "Callable[[Sequence[str], str, Mapping[str, object], int, int], list[dict[str, Any]]]"
"""Sends texts, kind, arguments, and how many texts of the same call came before and will come after these.
Returns {"value", "refused"} for each text."""

PAGE_ITEMS = {"classify": 2048, "filter": 2048}  # other replies are longer, and a page's must fit one frame
_PAGE_ITEMS = 512
PAGE_BYTES = 2 << 20
ITEM_BYTES = 3 << 20  # of one text; a frame takes 4 MiB with its arguments

# Documents that are not read whole unasked: these many characters together are ten minutes of two cores, and of one
# that is longer than LONG_CHARS the passages that ask_each() reads are a small part.
WHOLE_CHARS = 100_000
LONG_CHARS = 4_000


class Label(str):
    """A label, equal to its own text, with the .confidence that it is right, 0 to 1; None where that is not known."""

    __slots__ = ("confidence",)
    confidence: float | None


class Calls:
    """The names llm_*. One instance a session."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def llm_query(
        self,
        *prompt: str,
        choices: Sequence[str] | None = None,
        schema: object = None,
        regex: str | None = None,
        max_tokens: int | None = None,
    ) -> Any:
        """Return the sub-model's reply to one prompt: a text, one of the choices, or a value of the schema."""
        if len(prompt) != 1:
            raise TypeError(
                f"llm_query() takes one text, not {len(prompt)}; join question and passage: "
                "llm_query(question + '\\n\\n' + passage)"
            )
        if not isinstance(prompt[0], str):
            raise TypeError(f"llm_query() takes text, not {type(prompt[0]).__name__}; use str(...) around it")
        (reply,) = self._ask(prompt, "query", _form(choices, schema, regex, max_tokens), 0, 0)
        if reply["refused"]:
            raise RuntimeError(reply["refused"])
        return reply["value"]

    def llm_query_batched(
        self,
        prompts: Iterable[str],
        *,
        choices: Sequence[str] | None = None,
        schema: object = None,
        regex: str | None = None,
        max_tokens: int | None = None,
    ) -> list[Json]:
        """Return the sub-model's replies, in the order of the prompts."""
        form = _form(choices, schema, regex, max_tokens)
        replies = self._all("query", _texts("llm_query_batched", prompts), form, report=bool(form))
        if form:
            return [reply["value"] for reply in replies]
        if replies and all(reply["refused"] for reply in replies):
            raise RuntimeError(replies[0]["refused"])
        return [f"Error: {reply['refused']}" if reply["refused"] else reply["value"] for reply in replies]

    def llm_classify(
        self,
        items: Iterable[str],
        labels: Sequence[str] | Mapping[str, str],
        *,
        instruction: str | None = None,
        examples: Iterable[tuple[str, str]] | None = None,
        passes: int | None = None,
        long: str = "split",
    ) -> list[Label | None]:
        """Return the label of each item, each with its .confidence; None where an item failed.

        labels: a list, or a dict from label to description. examples: pairs (item, label). passes: 2 reads the first
        512 items twice, the second time after those of which it was surest; that is better, and twice the sub-calls.
        long: "split" reads an item that is too long in pieces, "refuse" lets it fail. Raises ValueError for long
        documents, with the ways to ask of them; so does llm_filter().
        """
        items = _briefly("llm_classify", items)
        args = {"labels": _plain(labels), "instruction": instruction, "examples": _pairs(examples)}
        args |= {"passes": passes, "long": long}
        replies = self._all("classify", _texts("llm_classify", items), _given(args))
        return [_label(reply["value"]) for reply in replies]

    def llm_extract(
        self, items: Iterable[str], schema: object, *, instruction: str | None = None, long: str = "split"
    ) -> list[Json]:
        """Return for each item a value of the JSON schema; None where an item failed."""
        args = {"schema": schema, "instruction": instruction, "long": long}
        return [reply["value"] for reply in self._all("extract", _texts("llm_extract", items), _given(args))]

    def llm_map(
        self, items: Iterable[str], instruction: str, *, max_tokens: int | None = None, long: str = "split"
    ) -> list[Json]:
        """Return the sub-model's answer to the instruction for each item; None where an item failed."""
        args = {"instruction": instruction, "max_tokens": max_tokens, "long": long}
        return [reply["value"] for reply in self._all("map", _texts("llm_map", items), _given(args))]

    def llm_filter(
        self, items: Iterable[Any], condition: str, *, sure: float | None = None, long: str = "split"
    ) -> list[Any]:
        """Return the items that meet the condition, in order. One that could not be read is kept, and told of.

        sure: how likely it must be that one does, 0 to 1; by default more likely than not.
        """
        given = _briefly("llm_filter", items)
        args = _given({"condition": condition, "sure": sure, "long": long})
        replies = self._all("filter", _texts("llm_filter", given), args, kept=True)
        return [item for item, reply in zip(given, replies, strict=True) if reply["refused"] or reply["value"]]

    def meet(self, texts: Sequence[str], condition: str, *, sure: float) -> list[bool | None]:
        """Return whether each text meets the condition, as llm_filter() has it; None where it could not be read."""
        replies = self._all("filter", list(texts), {"condition": condition, "sure": sure})
        return [None if reply["refused"] else bool(reply["value"]) for reply in replies]

    def llm_reduce(self, texts: Iterable[str], instruction: str, *, max_tokens: int | None = None) -> str:
        """Return one text made of all by the instruction, in as many steps as the sub-model's window needs."""
        left = _texts("llm_reduce", texts)
        args = _given({"instruction": instruction, "max_tokens": max_tokens})
        while left:
            answers = []
            for page, behind, ahead in _pages("reduce", left):
                (reply,) = self._ask(page, "reduce", args, behind, ahead)
                if reply["refused"]:
                    raise RuntimeError(reply["refused"])
                answers.append(str(reply["value"]))
            left = answers
            if len(left) == 1:
                return left[0]
        return ""

    def _all(
        self, kind: str, texts: list[str], args: Mapping[str, object], *, report: bool = True, kept: bool = False
    ) -> list[dict[str, Any]]:
        """Return a reply for every text, and print which of them failed."""
        replies: list[dict[str, Any]] = []
        for page, behind, ahead in _pages(kind, texts):
            replies += self._ask(page, kind, args, behind, ahead)
        failed = [at for at, reply in enumerate(replies) if reply["refused"]]
        if failed and report:
            became = "are kept unread" if kept else "are None"
            print(
                f"llm_{kind}: {len(failed)} of {len(texts)} items failed and {became}; "
                f"the first of them, item {failed[0]}: {replies[failed[0]]['refused']}"
            )
        return replies


def _form(
    choices: Sequence[str] | None, schema: object, regex: str | None, max_tokens: int | None
) -> dict[str, object]:
    if choices is not None and not isinstance(choices, str):
        choices = list(choices)
    return _given({"choices": choices, "schema": schema, "regex": regex, "max_tokens": max_tokens})


def _given(args: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in args.items() if value is not None}


def _plain(labels: object) -> object:
    """Return labels as JSON has them; what is neither a mapping nor several texts is the host's to refuse."""
    if isinstance(labels, Mapping):
        return {str(label): str(description) for label, description in labels.items()}
    return labels if isinstance(labels, str) or not isinstance(labels, Iterable) else list(labels)


def _pairs(examples: object) -> object:
    if isinstance(examples, Mapping):
        return [[str(item), str(label)] for item, label in examples.items()]
    if examples is None or isinstance(examples, str) or not isinstance(examples, Iterable):
        return examples
    return [list(pair) if isinstance(pair, tuple) else pair for pair in examples]


def _listed(function: str, items: Iterable[Any]) -> list[Any]:
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise TypeError(f"{function}() takes a list of texts, not {type(items).__name__}")
    return list(items)


def _briefly(function: str, items: Iterable[Any]) -> list[Any]:
    """Return the items. Raises ValueError for documents that are long, of which few passages tell what is asked."""
    given = _listed(function, items)
    whole = [len(item) for item in given if isinstance(item, Document)]
    if sum(whole) > max(WHOLE_CHARS, LONG_CHARS * len(whole)):
        raise ValueError(
            f"{function}() would read {len(whole)} documents whole, {sum(whole):,} characters; "
            "ask_each(question, labels) reads the passages of each that the question finds, and listed(label) has what "
            "their lines list; whoever wants them read whole passes their .text"
        )
    return given


def _texts(function: str, items: Iterable[Any]) -> list[str]:
    """Return items as plain texts: strings, documents and passages of search()."""
    texts = []
    for at, item in enumerate(_listed(function, items)):
        text = item if isinstance(item, str) else getattr(item, "text", None)
        if not isinstance(text, str):
            raise TypeError(f"{function}() takes text, not {type(item).__name__}; use str(...) around it")
        if len(text) > ITEM_BYTES // 4 and len(text.encode("utf-8", "replace")) > ITEM_BYTES:
            raise ValueError(
                f"{function}(): item {at} has {len(text):,} characters, but one text may have {ITEM_BYTES:,} bytes; "
                "cut it into pieces"
            )
        texts.append(str(text))
    return texts


def _pages(kind: str, texts: list[str]) -> Iterator[tuple[list[str], int, int]]:
    """Yield the texts in runs that fit a frame, each with the numbers of those that come before and after it."""
    most = PAGE_ITEMS.get(kind, _PAGE_ITEMS)
    start = size = 0
    for end, text in enumerate(texts):
        text_bytes = len(text.encode("utf-8", "replace"))
        if end > start and (end - start == most or size + text_bytes > PAGE_BYTES):
            yield texts[start:end], start, len(texts) - end
            start, size = end, 0
        size += text_bytes
    if texts:
        yield texts[start:], start, 0


def _label(value: Json) -> Label | None:
    if not isinstance(value, dict):
        return None
    label = Label(value["label"])
    confidence = value["confidence"]
    label.confidence = confidence if isinstance(confidence, float) else None
    return label
