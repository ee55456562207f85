"""Whether an answer to a question for quotes is made of the documents' own words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlm_local.types import Corpus, JsonValue, Text

QUOTE_WORDS = 4  # a shorter line may be a heading of the model's own
QUOTES = 64  # lines of an answer that are looked for
_LINE_CHARS = 20_000  # of each
_CHUNK_CHARS = 1 << 20  # of the documents, folded at a time
_ASKS = re.compile(
    r"(?:\A\W*|[.?!:;]\s+|\b(?:and|please|then)\s+)quote\b|\bverbatim\b|\bword[ -](?:for|by)[ -]word\b"
    r"|\b(?:the|its|their) exact (?:words|wording)\b",
    re.IGNORECASE,
)
_NOT = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bwithout|\bno need to)\s+(?:\w+\s+){0,3}(?:quot|verbatim|word)", re.IGNORECASE
)
_AROUND = " \t\"'“”‘’«»„*•-"  # what a model puts around a quote
_IN_QUOTES = re.compile(r"[\"“«]([^\"“”«»]+)[\"”»]")
_VERDICT = re.compile(r"\W*(?:yes|no)\W*", re.IGNORECASE)
_NUMBERED = re.compile(r"\A\(?\d{1,3}[.):]\s+")
_ELLIPSIS = re.compile(r"\.{3,}|…|\[(?:\.{3}|…)\]")
_KINDS = str.maketrans("’‘“”‐‑–", "''\"\"---")  # of quotes and dashes


def asks_for_quotes(question: str) -> bool:
    """Say whether a question wants what the documents say word for word."""
    return _ASKS.search(question) is not None and _NOT.search(question) is None


def unquoted(value: JsonValue, corpus: Corpus) -> str:
    """Return the first line of an answer that stands in no document; "" where each does, of those with QUOTE_WORDS.

    White space, quotes and numbers around a line, and the kinds of quotes and dashes in it do not matter; what is left
    out by "..." may be anything. Of a line with words in quotation marks these have to stand there; one that ends with
    a colon leads to others. The fields of a dict are the caller's. A plain yes or no is no quote.
    """
    if isinstance(value, str) and _VERDICT.fullmatch(value):
        return value
    wanted = [(line, piece) for line in list(_lines(value))[:QUOTES] for piece in _pieces(line)]
    missing = [(line, piece) for line, piece in wanted if corpus.context.find(piece) < 0]
    if missing:
        longest = max(len(piece) for _, piece in missing)
        for chunk in _chunks(corpus.context, overlap=2 * longest):
            told = _folded(chunk)
            missing = [(line, piece) for line, piece in missing if _folded(piece) not in told]
    return missing[0][0] if missing else ""


def _lines(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield from (line.strip() for line in value.splitlines())
    elif isinstance(value, list):
        for one in value:
            yield from _lines(one)


def _pieces(line: str) -> Iterator[str]:
    """Yield what must stand in a document for a line to be quoted."""
    if line.endswith(":"):
        return
    line = line[:_LINE_CHARS]
    told = [part for part in _IN_QUOTES.findall(line) if len(part.split()) >= QUOTE_WORDS]
    for one in told or [_NUMBERED.sub("", line.strip(_AROUND))]:
        for piece in _ELLIPSIS.split(one):
            inner = piece.strip(_AROUND)
            if len(inner.split()) >= QUOTE_WORDS:
                yield inner


def _chunks(text: Text, overlap: int) -> Iterator[str]:
    for start in range(0, len(text), _CHUNK_CHARS):
        yield str(text[start : start + _CHUNK_CHARS + overlap])


def _folded(text: str) -> str:
    return " ".join(text.translate(_KINDS).split())
