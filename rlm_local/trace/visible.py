"""Text that nobody vouches for, made safe for a terminal.

A document, or a model that has read it, may print what moves the cursor, paints over earlier lines, sets the
window's title or turns the order of letters around. Such characters are shown as escapes in place of acting.
"""

from __future__ import annotations

import re

# Controls but newline and tab (C0, DEL, C1); line and paragraph separators; marks, overrides and isolates of
# writing direction; invisible operators, tags and the byte order mark; lone surrogates, which no terminal can encode.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u061c\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Return `text` with every character that acts on a terminal, or hides, as \\x.., \\u.... or \\U........

    Newlines and tabs stay. So do joiners inside of words (U+200C, U+200D), which some scripts need.
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def visible_line(text: str, max_chars: int) -> str:
    """Return `text` on one visible line of at most max_chars (10 or more), told by "…" when it was longer."""
    # Cut before folding: a sub-call's prompt may be a million characters.
    line = visible(" ".join(text[: 4 * max_chars].split()))
    if len(line) <= max_chars and len(text) <= 4 * max_chars:
        return line
    return line[: max_chars - 1].rstrip() + "…"
