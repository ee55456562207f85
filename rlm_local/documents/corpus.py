"""The documents of a request as one text, and the way back from an offset in it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from rlm_local.types import Corpus, Document


def join(documents: Sequence[Document]) -> Corpus:
    """Return the documents as one context: for each a header line, its text unchanged, and one newline.

    The header line is `===== DOCUMENT i of n: NAME =====`, i from 1. A document may contain such a line itself:
    where a document begins is told by `starts`, never by its header.
    """
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    for number, document in enumerate(documents, start=1):
        header = f"===== DOCUMENT {number} of {len(documents)}: {document.name} =====\n"
        starts.append(length + len(header))
        parts += (header, document.text, "\n")
        length += len(header) + len(document.text) + 1
    return Corpus(tuple(documents), "".join(parts), tuple(starts))


def locate(corpus: Corpus, offset: int) -> tuple[int, int]:
    """Return which document an offset of the context stands in, and the offset from that document's beginning.

    An offset on a header belongs to the beginning of the document that it announces; one behind a text belongs to
    that text's end.
    Raises IndexError for an offset outside 0..len(context), and for a corpus without documents.
    """
    if not (corpus.documents and 0 <= offset <= len(corpus.context)):
        raise IndexError(f"offset {offset} is outside 0..{len(corpus.context)} of {len(corpus.documents)} documents")
    index = max(bisect_right(corpus.starts, offset) - 1, 0)
    text_end = corpus.starts[index] + len(corpus.documents[index].text)
    if offset > text_end and index + 1 < len(corpus.documents):
        return index + 1, 0
    return index, min(max(offset - corpus.starts[index], 0), text_end - corpus.starts[index])


def line_at(text: str, offset: int) -> int:
    """Return the line, from 1, that an offset of a text stands on.

    Counts newlines without copying: about 10 ms at the end of 42 MB, so it needs no index for a few look-ups.
    """
    return text.count("\n", 0, offset) + 1
