"""What the owner of a key may take: runs at once, tokens a day, and how large a document may be."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rlm_local.errors import ConfigError, EngineError, RlmError
from rlm_local.server.database import Database
from rlm_local.server.logs import log
from rlm_local.server.problem import Problem

_DAY_S = 86_400
_HEAD = b"data: "
_MOST = 2**63 - 1  # that SQLite keeps of an integer


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """None: as much as the server takes. Raises ConfigError for a bound below 1 or above what can be kept."""

    max_runs: int | None = None  # that wait or are at work, at one time
    tokens_a_day: int | None = None  # prompt and completion, of runs and of the engine itself; a day ends at 0:00 UTC
    max_document_bytes: int | None = None  # of each document, in UTF-8

    def __post_init__(self) -> None:
        for name in ("max_runs", "tokens_a_day", "max_document_bytes"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= _MOST:
                raise ConfigError(f"{name} is {value}, but must be 1..{_MOST}")

    def check_document(self, size: int, name: str) -> None:
        """Raise Problem (413) for a document of so many bytes."""
        if self.max_document_bytes is not None and size > self.max_document_bytes:
            said = f"{name} has {size} bytes, but this key takes documents of at most {self.max_document_bytes}"
            raise Problem(413, said, code="too_large")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key and its bounds; without a key nothing is bounded."""

    key: str = ""
    limits: KeyLimits = KeyLimits()


NOBODY = Caller()


class Quotas:
    """Counts the tokens of keys that have a bound on them, a day a row, so that a restart forgets none."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def check(self, caller: Caller) -> None:
        """Raise Problem (429) when the day's tokens are spent. What was accepted before may go over."""
        most = caller.limits.tokens_a_day
        if most is None:
            return
        spent = self.spent(caller.key)
        if spent >= most:
            wait_s = _DAY_S - int(self._now()) % _DAY_S
            said = f"this key has spent {spent} of its {most} tokens of today; there are new ones in {wait_s} s"
            raise Problem(429, said, code="tokens_a_day", retry_after_s=wait_s)

    def spent(self, key: str) -> int:
        """Return a key's tokens of today."""
        found = self._database.rows("SELECT tokens FROM spent WHERE key = ? AND day = ?", key, self._today())
        return int(found[0]["tokens"]) if found else 0

    def book(self, key: str, tokens: int) -> None:
        """Count tokens of a key that has a bound on them. Records that cannot be written take nobody's answer away."""
        if tokens <= 0:
            return
        try:
            self._database.write(
                "INSERT INTO spent (key, day, tokens) SELECT id, ?2, ?3 FROM keys "
                "WHERE id = ?1 AND tokens_a_day IS NOT NULL "
                "ON CONFLICT (key, day) DO UPDATE SET tokens = tokens + ?3",
                *(key, self._today(), tokens),
            )
        except RlmError as error:
            log("tokens are not booked", key=key, tokens=tokens, error=str(error))

    def _today(self) -> int:
        return int(self._now()) // _DAY_S


class Meter:
    """Books what one request to the engine itself has come to, when the block ends, however it does.

    The engine tells that at the end of its answer. Of one that nobody has waited for, the prompt is booked, and the
    pieces that were read.
    """

    def __init__(self, quotas: Quotas | None, caller: Caller) -> None:
        self.total = 0  # as the engine tells it
        self._quotas = quotas if caller.limits.tokens_a_day is not None else None
        self._key = caller.key
        self._prompt: int | None = None  # its tokens, about; None: the engine has not had the request
        self._seen = 0
        self._is_booked = False

    @property
    def counts(self) -> bool:
        """Whether this caller's tokens are booked."""
        return self._quotas is not None

    def begin(self, prompt: int) -> None:
        """Note that the engine gets the request. prompt: its tokens, about."""
        self._prompt = prompt

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, EngineError):
            self._book()

    async def passed_on(self, pieces: AsyncIterator[bytes], *, with_usage: bool) -> AsyncGenerator[bytes, None]:
        """Pass on the engine's stream, which tells its usage at the end. with_usage: the caller wants to see it."""
        rest = b""
        async for piece in pieces:
            *events, rest = (rest + piece).split(b"\n\n")
            for one in events:
                told = json.loads(one[len(_HEAD) :]) if one.startswith(_HEAD + b"{") else {}
                self._seen += bool(told.get("choices"))
                self.total = (told.get("usage") or {}).get("total_tokens", self.total)
                if with_usage or "choices" not in told or told["choices"]:
                    yield one + b"\n\n"
        self._book()  # before the caller sees the end, and asks again
        if rest:
            yield rest

    def _book(self) -> None:
        if self._quotas is not None and self._prompt is not None and not self._is_booked:
            self._is_booked = True
            self._quotas.book(self._key, self.total or self._prompt + self._seen)
