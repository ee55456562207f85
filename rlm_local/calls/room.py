"""What fits one request: the room for an item, and texts cut so that they keep to it."""

from __future__ import annotations

from rlm_local.calls.caller import Caller, RefusedError, at_most_tokens
from rlm_local.ports import BadCall, Engine

_BREAKS = ("\n\n", "\n", ". ", " ")  # where a piece best ends
MIN_ROOM = 16  # tokens; in less than this no text can be read


def room_of(caller: Caller, taken: int) -> int:
    """Return the tokens that an item may have. Raises BadCall when the rest of the request leaves it none."""
    window = caller.engine.info.window_tokens
    if window - taken < MIN_ROOM:
        raise BadCall(
            f"instruction, labels, examples and reply take {taken:,} tokens, but the window holds {window:,}; "
            "shorten them, or ask for shorter replies"
        )
    return window - taken


async def fitting(engine: Engine, text: str, room: int, *, split: bool) -> list[str]:
    """Return a text in pieces of at most `room` tokens, [text] where it fits.

    Raises RefusedError, with the numbers, for one that is too long and not to be split.
    """
    if split:
        return await pieces(engine, text, room)
    tokens = await at_most_tokens(engine, text, room)
    if tokens > room:
        raise RefusedError(
            f"the item has {tokens:,} tokens ({len(text):,} characters), but one sub-call reads {room:,}; "
            "cut it into pieces, or say long='split'"
        )
    return [text]


async def pieces(engine: Engine, text: str, room: int) -> list[str]:
    """Return `text` in order, whole, in pieces of at most `room` tokens; [text] where it fits.

    Pieces end at a paragraph's, a line's, a sentence's or a word's end, where there is one in their second half.
    """
    tokens = await at_most_tokens(engine, text, room)
    if tokens <= room:
        return [text]
    found: list[str] = []
    # Somewhat shorter than by the average, since no text is equally dense; what is too long still is halved.
    usual = max(1, int(len(text) * room / tokens * 0.8))
    start, chars = 0, usual
    while start < len(text):
        end = _end(text, start, chars)
        if end - start > 1 and await at_most_tokens(engine, text[start:end], room) > room:
            chars = max(1, (end - start) // 2)
            continue
        found.append(text[start:end])
        start, chars = end, usual
    return found


def _end(text: str, start: int, chars: int) -> int:
    last = start + chars
    if last >= len(text):
        return len(text)
    for mark in _BREAKS:
        at = text.rfind(mark, start + chars // 2, last)
        if at >= 0:
            return at + len(mark)
    return last
