"""Where a quote may begin and end: sentences of prose, lines of a list or a table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from rlm_local.types import Text

QUOTE_CHARS = 400  # the longest passage

Range = tuple[int, int]  # start, end (exclusive) in characters

_LOOKED_AROUND = QUOTE_CHARS + 16  # what a passage's edges depend on, and a pattern of a value

_RECORD_LINE_CHARS = 100  # nobody wraps prose wider than this, so a longer line stands for itself
_SHORT_LINE_CHARS = 45  # shorter than wrapped prose: a heading, or an entry of a list
_CLOSING = "\"')\\]”’»"
# A full stop behind one letter or a usual abbreviation ends no sentence, nor does one before a small letter.
# The mark comes first in the pattern, so that the rest is tried at few places.
_SENTENCE_END = re.compile(
    r"[.!?](?<!\b\w.)(?<!\b(?:No|Nr|Dr|Mr|vs).)(?<!\b(?:Mrs|Inc|Ltd|Art|Sec).)"
    rf"[{_CLOSING}]*\s+(?=[^\sa-zà-öø-ÿ])"
)
_LIST_MARK = re.compile(r"[-*•–|#]|\(?\w{1,3}[.)]\s|\w+(?: \w+)?:\s")  # "- ", "(a) ", "12. ", "Date: "
_ENDS_A_LINE = ".!?:;|}"


def around(text: Text, start: int, end: int) -> tuple[str, int]:
    """Return so much around text[start:end] that its passages are those of the whole text, and where that begins.

    A str is returned as it is: nothing of it needs to be copied.
    """
    if isinstance(text, str):
        return text, 0
    first = max(0, start - _LOOKED_AROUND)
    return text[first : end + _LOOKED_AROUND], first


def passages(text: str, start: int, end: int) -> list[Range]:
    """Return the passages that text[start:end] touches, whole, in order, without white space at their edges.

    None is longer than QUOTE_CHARS: what would be is cut at the end of a line, else between words. Looks at no
    more of the text than QUOTE_CHARS on either side.
    """
    low, high = max(0, start - QUOTE_CHARS), min(len(text), end + QUOTE_CHARS)
    edges = [low, *sorted(_beginnings(text, low, high)), high]
    found: list[Range] = []
    for left, right in itertools.pairwise(edges):
        if right <= start or left >= end:
            continue
        found += (piece for piece in _pieces(text, left, right) if piece[1] > start and piece[0] < end)
    return found


def passage_around(text: str, start: int, end: int) -> Range:
    """Return the passage to quote for text[start:end]: its whole sentences where they fit QUOTE_CHARS.

    Longer ones are cut between words, start..end in the middle; of a start..end that is itself too long, the
    beginning is kept.
    """
    end = min(end, start + QUOTE_CHARS)
    touched = passages(text, start, end)
    if touched and touched[-1][1] - touched[0][0] <= QUOTE_CHARS:
        return touched[0][0], touched[-1][1]
    room = (QUOTE_CHARS - (end - start)) // 2
    left, right = max(0, start - room), min(len(text), end + room)
    if left > 0 and (gap := re.compile(r"\s").search(text, left, start)):
        left = gap.end()
    if right < len(text):
        right = max(end, *(text.rfind(blank, end, right) for blank in " \n"))
    return _trimmed(text, left, right)


def _beginnings(text: str, low: int, high: int) -> Iterator[int]:
    """Yield where, behind `low`, a new sentence, paragraph or entry begins."""
    for match in _SENTENCE_END.finditer(text, low, high):
        yield match.end()
    line_start = low
    while (newline := text.find("\n", line_start, high)) >= 0:
        next_end = text.find("\n", newline + 1, high)
        following = text[newline + 1 : next_end if next_end >= 0 else high]
        if _ends_passage(text[line_start:newline], following):
            yield newline + 1
        line_start = newline + 1


def _ends_passage(line: str, following: str) -> bool:
    """Tell whether the sentence or entry on `line` is over at its end, rather than wrapped into `following`."""
    text, after = line.strip(), following.strip()
    if not text or not after:
        return True
    if text[-1] in _ENDS_A_LINE or _LIST_MARK.match(after) or len(line) > 2 * _RECORD_LINE_CHARS:
        return True
    if after[0].islower():
        return False
    return len(text) < _SHORT_LINE_CHARS or len(line) > _RECORD_LINE_CHARS


def _pieces(text: str, start: int, end: int) -> Iterator[Range]:
    start, end = _trimmed(text, start, end)
    while end - start > QUOTE_CHARS:
        limit = start + QUOTE_CHARS
        cut = text.rfind("\n", start + 1, limit)
        if cut < 0:
            cut = text.rfind(" ", start + 1, limit)
        piece = _trimmed(text, start, cut if cut > 0 else limit)
        yield piece
        start, end = _trimmed(text, max(piece[1], start + 1), end)
    if start < end:
        yield start, end


def _trimmed(text: str, start: int, end: int) -> Range:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
