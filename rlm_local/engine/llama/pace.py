"""How much of a prompt to read between two tokens of the replies under way."""

from __future__ import annotations

_SLOWDOWN = 1.6  # a step that reads takes at most this much longer than one that does not, times itself
_LEAST = 16  # tokens; fewer would waste the kernels for many
_TRUST = 0.3  # weight of the newest measurement


class Pace:
    """Measured times of steps, and from them a bound in tokens.

    most: tokens of one computation, when nobody waits for his next token.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._write_s = 0.0  # one step of all replies
        self._read_s = 0.0  # one token of a prompt

    def took(self, tokens: int, seconds: float, *, writing: bool) -> None:
        if writing:
            self._write_s += (seconds - self._write_s) * (_TRUST if self._write_s else 1)
        elif tokens >= _LEAST:
            self._read_s += (seconds / tokens - self._read_s) * (_TRUST if self._read_s else 1)

    def prompt_tokens(self, *, writers: int, readers: int) -> int:
        """Return how many prompt tokens the next step may compute while `writers` replies are under way."""
        if not writers:
            return self._most
        # Where most are still reading, as when a fan-out begins, a few writers wait: they go faster together.
        least = _LEAST if readers <= writers else 4 * _LEAST
        if not self._read_s:
            return min(self._most, 4 * _LEAST)
        bound = int(_SLOWDOWN * self._write_s / self._read_s)
        return min(self._most, max(least, bound - bound % 4))
