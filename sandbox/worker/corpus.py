"""The documents inside the jail: one str, and views into it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.worker.folding import Haystack


_NAMES_TOLD = 20
_BEGINNING_CHARS = 500  # where a document tells what it is


class Document:
    """One document: .name, .text, .start (where .text begins in `context`), len(). A view, not a copy."""

    __slots__ = ("_context", "_length", "name", "start")

    def __init__(self, name: str, context: str, start: int, length: int) -> None:
        self.name = name
        self.start = start
        self._context = context
        self._length = length

    @property
    def text(self) -> str:
        """The document's text. Sliced at every use: kept, it would be a second copy of the whole context."""
        return self._context[self.start : self.start + self._length]

    @property
    def end(self) -> int:
        """Where .text ends in `context`."""
        return self.start + self._length

    def __len__(self) -> int:
        return self._length

    def __contains__(self, part: object) -> bool:
        if not isinstance(part, str):
            raise TypeError(f"'in document' takes a text, not {type(part).__name__}")
        return self._context.find(part, self.start, self.end) >= 0

    def has(self, text: str) -> bool:
        """Say whether a text stands in the document, in whatever case: code forgets to lower one of the two."""
        return str(text).lower() in self.text.lower()

    def __getitem__(self, key: Any) -> str | int:
        """document["name"], document["text"] and document[100:200] all read as one expects."""
        if key in ("name", "text", "start"):
            value: str | int = getattr(self, key)
            return value
        if isinstance(key, slice) and key.step in (None, 1):
            first, last, _ = key.indices(self._length)
            return self._context[self.start + first : self.start + max(first, last)]
        return self.text[key]

    def __repr__(self) -> str:
        """Return the name: a list of documents is printed as what it is an answer to, which of them."""
        return repr(self.name)

    def __str__(self) -> str:
        return self.name


class Corpus:
    """The joined text and its documents."""

    def __init__(self, context: str, names: Sequence[str], starts: Sequence[int], lengths: Sequence[int]) -> None:
        self.context = context
        self.starts = list(starts)
        self.documents = [
            Document(name, context, start, length) for name, start, length in zip(names, starts, lengths, strict=True)
        ]
        self._folded: Haystack | None = None

    def only(self, documents: Sequence[Document]) -> Corpus:
        """Return the corpus of these documents, in their order, over the same context."""
        own = sorted(documents, key=lambda document: document.start)
        names, starts = [one.name for one in own], [one.start for one in own]
        part = Corpus(self.context, names, starts, [len(one) for one in own])
        part._folded = self.folded()
        return part

    def some(self, given: object) -> list[Document]:
        """Return the documents that are meant: all for None, one by itself or its name, or those of a list.

        A name may be a part of one, or stand at a document's beginning. Raises ValueError where no document fits.
        """
        if given is None or given is self.documents:
            return self.documents
        if isinstance(given, Document):
            return [given]
        if isinstance(given, list | tuple | set):
            return list({one.start: one for each in given for one in self.some(each)}.values())
        wanted = str(given).strip().lower()
        for where in (_exact_name, _part_of_name, _beginning):
            if found := [one for one in self.documents if wanted and where(one, wanted)]:
                return found
        names = ", ".join(one.name for one in self.documents[:_NAMES_TOLD])
        raise ValueError(f"no document has {given!r} in its name or at its beginning; names: {names}")

    def folded(self) -> Haystack | None:
        """Return the context in lower case; None where lower case has other offsets."""
        if self._folded is None:
            from sandbox.worker.folding import Haystack, can_fold

            if not can_fold(self.context):
                return None
            self._folded = Haystack(self.context, fold=True)
        return self._folded

    def as_it_is(self) -> Haystack:
        """Return the context for a search in which case matters."""
        from sandbox.worker.folding import Haystack

        return Haystack(self.context, fold=False)

    def index_of(self, document: Document) -> int:
        """Return a document's place among them."""
        return bisect_right(self.starts, document.start) - 1

    def document_at(self, position: int) -> int:
        """Return the index of the document that holds this position of the context, -1 for a header line."""
        index = bisect_right(self.starts, position) - 1
        return index if index >= 0 and position < self.documents[index].end else -1


def _exact_name(document: Document, wanted: str) -> bool:
    return document.name.lower() == wanted


def _part_of_name(document: Document, wanted: str) -> bool:
    return wanted in document.name.lower()


def _beginning(document: Document, wanted: str) -> bool:
    return wanted in str(document[:_BEGINNING_CHARS]).lower()
