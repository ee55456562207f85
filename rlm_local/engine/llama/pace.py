"""How much of a prompt to read between two tokens of the replies under way."""

from __future__ import annotations

# Tokens of a reply from which on it is paced. Before, it is likely one of a fan-out whose other prompts are still
# unread: together they are done soonest when all is read first, in computations as large as can be (an RLM trace
# with 1.5B weights, 16 calls a turn: 53 tokens/s in pieces between the first replies' tokens, 96 in whole ones).
ESTABLISHED = 4
_READ_SHARE = 1.7  # seconds of reading for one second of writing: a reply takes 2.7 times as long beside a prompt
_STALL_S = 1.0  # longest that replies stand still for one piece
_LEAST = 16  # tokens; fewer would waste the kernels for many
_TRUST = 0.3  # weight of the newest measurement


class Pace:
    """Measured times of steps, and from them a bound in tokens.

    Replies earn the prompts time, and a prompt spends it in pieces that are as large as can be: a computation
    of 16 tokens costs half of one of 128 (1.5B weights, measured), so many small pieces would make both slow.

    most: tokens of one computation, when nobody waits for his next token.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._read_s = 0.0  # one token of a prompt
        self._earned_s = 0.0
        self._beside = False  # replies wait for what is read now

    def took(self, tokens: int, seconds: float, *, writing: bool) -> None:
        """Note a computation; `tokens` of replies when writing, else of prompts."""
        if writing:
            self._earned_s = min(self._earned_s + _READ_SHARE * seconds, _STALL_S)
            return
        if self._beside:
            self._earned_s = max(self._earned_s - seconds, -_STALL_S)
        if tokens >= _LEAST:
            self._read_s += (seconds / tokens - self._read_s) * (_TRUST if self._read_s else 1)

    def prompt_tokens(self, *, writers: int, readers: int, unread: int) -> int:
        """Return how many prompt tokens the next computation may have.

        writers: established replies under way; readers: requests with `unread` tokens of prompts left, together.
        """
        self._beside = writers > 0
        if not writers:
            return self._most
        # A fan-out beside few others: they wait a little, and then all go together.
        if readers > writers and unread <= 2 * self._most:
            return self._most
        if not self._read_s:
            return min(self._most, 4 * _LEAST)
        piece = max(_LEAST, min(self._most, int(_STALL_S / self._read_s), unread))
        return piece if self._earned_s >= piece * self._read_s or self._earned_s >= _STALL_S else 0
