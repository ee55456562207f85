"""The documents in lower case, stretch by stretch: a second copy of them all would be as large as they are."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

KEPT_BYTES = 8 << 20  # a context up to here is folded once and kept
STRETCH_CHARS = 1 << 16  # small enough to stay in the processor's own memory
_LONGER = "\u0130"  # the one character whose lower case is not one character too
_BLANK = re.compile(r"\s")
_WORD_CHARS = 256  # looked through at a time for where a word begins


class Stretch(NamedTuple):
    """A part of the folded text: text[0] stands at `base` of the context."""

    text: str
    base: int
    stop: int  # what begins before it, in the context, is whole in here


class Haystack:
    """What a search looks through: the context as it is, or in lower case. All positions are the context's."""

    def __init__(
        self, context: str, *, fold: bool, kept_bytes: int = KEPT_BYTES, stretch_chars: int = STRETCH_CHARS
    ) -> None:
        self._context = context
        self._chars = stretch_chars
        self._whole: str | None = None if fold else context
        if fold and sys.getsizeof(context) <= kept_bytes:
            self._whole = context.lower()

    def stretches(self, start: int, end: int, reach: Callable[[int], int]) -> Iterator[Stretch]:
        """Yield the text from start to end in stretches that overlap; all that is found is before `end`.

        reach: where that ends at the latest, in the context, which begins before a position.

        A stretch begins and ends at white space, or at start and end. So it is folded as the whole text would be:
        the lower case of a capital sigma depends on the letters around it, and nothing else on anything around it.
        """
        if self._whole is not None:
            yield Stretch(self._whole, 0, end)
            return
        while start < end:
            stop = self._blank(start + self._chars, end)
            until = stop if stop == end else self._blank(reach(stop), end)
            yield Stretch(self._context[start:until].lower(), start, stop)
            start = stop

    def part(self, start: int, end: int) -> str:
        """Return the folded text from start to end."""
        if self._whole is not None:
            return self._whole[start:end]
        first, last = self._word_start(start), self._blank(end, len(self._context))
        return self._context[first:last].lower()[start - first : end - first]

    def _blank(self, position: int, end: int) -> int:
        """Return where the next white space is, `end` where there is none before it."""
        found = _BLANK.search(self._context, position, end) if position < end else None
        return found.start() if found else end

    def _word_start(self, position: int) -> int:
        """Return the beginning of the run without white space that goes on at this position."""
        while position > 0:
            before = self._context[max(0, position - _WORD_CHARS) : position]
            word = _BLANK.split(before)[-1]
            position -= len(word)
            if len(word) < len(before):
                break
        return position


def can_fold(context: str) -> bool:
    """Tell whether lower case has the same offsets."""
    return _LONGER not in context
