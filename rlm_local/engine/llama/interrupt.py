"""Why a computation did not finish, and how to make it not finish."""

from __future__ import annotations

import ctypes

from rlm_local.errors import EngineError


class NoRoom(EngineError):
    """The context has too few free cells for this batch; nothing was computed, and the same call may
    succeed once sequences were removed."""


class Aborted(EngineError):
    """A Cancel ended this computation; what it had added to the sequence is gone or must be removed."""


class DeadlinePassed(EngineError):
    """The caller's own deadline ended this request."""


class Cancel:
    """Ends a computation from another thread, within milliseconds even inside llama_decode.

    llama.cpp asks its abort callback between the nodes of a graph. A Python callback would need the
    interpreter's lock hundreds of times a token, so the callback is libc's strlen on two bytes of ours:
    empty is 0, "do not abort"; one character is 1, "abort".
    """

    def __init__(self) -> None:
        self.flag = ctypes.create_string_buffer(2)

    def set(self) -> None:
        self.flag[0] = b"x"

    def clear(self) -> None:
        self.flag[0] = b"\0"

    @property
    def is_set(self) -> bool:
        return self.flag[0] != b"\0"
