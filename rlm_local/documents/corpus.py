"""The documents of a request as one text, and the way back from an offset in it."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from rlm_local.texts import HeldText, SealedText, chunks, widest
from rlm_local.types import Corpus, Document, Text

SEALED_CHARS = 1 << 20  # from here on the context is a sealed text; of a shorter one a copy more or less is nothing


def join(documents: Sequence[Document], *, sealed_chars: int = SEALED_CHARS) -> Corpus:
    """Return the documents as one context: for each a header line, its text unchanged, and one newline.

    The header line is `===== DOCUMENT i of n: NAME =====`, i from 1. A document may contain such a line itself:
    where a document begins is told by `starts`, never by its header.
    A context of `sealed_chars` and more is sealed, and what was read from files is from then on in there: see
    texts.SealedText.
    """
    parts: list[Text] = []
    starts: list[int] = []
    length = 0
    for header, document in zip(_headers([document.name for document in documents]), documents, strict=True):
        starts.append(length + len(header))
        parts += (header, document.text, "\n")
        length += len(header) + len(document.text) + 1
    context = SealedText(*parts) if length >= sealed_chars else "".join(map(str, parts))
    return Corpus(tuple(documents), context, tuple(starts))


async def join_aside(documents: Sequence[Document]) -> Corpus:
    """Return what join() does; long documents take a while, in which others may go on."""
    if sum(len(document.text) for document in documents) < SEALED_CHARS:
        return join(documents)
    return await asyncio.to_thread(join, documents)


def joined_bytes(documents: Sequence[Document]) -> int:
    """Return the memory that join() takes beyond what it gives back."""
    texts, names = [document.text for document in documents], [document.name for document in documents]
    _, char_bytes = widest([*texts, *_headers(names)])
    chars = joined_chars(names, [len(text) for text in texts])
    return char_bytes * chars - sum(text.shelved_bytes for text in texts if isinstance(text, HeldText))


def joined_chars(names: Sequence[str], chars: Sequence[int]) -> int:
    """Return how long the context of documents of these names and lengths is."""
    return sum(map(len, _headers(names))) + sum(chars) + len(chars)


def _headers(names: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(names, start=1):
        yield f"===== DOCUMENT {number} of {len(names)}: {name} =====\n"


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


def line_at(text: Text, offset: int) -> int:
    """Return the line, from 1, that an offset of a text stands on.

    Counts newlines piece by piece: some 20 ms at the end of 42 MB, so it needs no index for a few look-ups.
    """
    return sum(chunk.count("\n") for chunk in chunks(text, offset)) + 1
