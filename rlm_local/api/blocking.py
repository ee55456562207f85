"""RLM: AsyncRLM for code without an event loop. Nothing is done here but to wait for it."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 (see _close_all)
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from rlm_local.api.asking import Documents, Options, Settings, Validator
from rlm_local.api.asynchronous import AsyncRLM
from rlm_local.api.portal import Portal
from rlm_local.cards import DEFAULT_MODEL
from rlm_local.errors import RlmError
from rlm_local.events import Event
from rlm_local.runtime import Runtime
from rlm_local.types import Answer


class RLM:
    """Answers questions about documents. May be used from several threads at once.

    The engine starts with the first question and ends with close(), with `with`, when the object is gone, or when this
    process ends, however that is.
    """

    def __init__(self, model: str | Runtime = DEFAULT_MODEL, **settings: Unpack[Settings]) -> None:
        """See AsyncRLM."""
        self._rlm = AsyncRLM(model, **settings)
        self._portal = Portal()
        self._finalizer = weakref.finalize(self, _close, self._rlm, self._portal)
        self._finalizer.atexit = False  # that would be too late, see below
        _open.add(self)

    def ask(self, question: str, documents: Documents, **options: Unpack[Options]) -> Answer:
        """See AsyncRLM.ask. Ctrl-C ends the run."""
        return self._portal.run(self._rlm.ask(question, documents, **options))

    def events(self, question: str, documents: Documents, **options: Unpack[Options]) -> Iterator[Event]:
        """See AsyncRLM.events."""
        source = self._rlm.events(question, documents, **options)

        async def following() -> Event | None:
            return await anext(source, None)

        try:
            while (event := self._portal.run(following())) is not None:
                yield event
        finally:
            with suppress(RlmError):  # closed already, which has ended the run
                self._portal.run(source.aclose())

    def resume(self, trace: Path, paths: Sequence[Path] = (), *, validator: Validator | None = None) -> Answer:
        """See AsyncRLM.resume."""
        return self._portal.run(self._rlm.resume(trace, paths, validator=validator))

    def close(self) -> None:
        """End all runs, and the engine. Safe to call twice."""
        self._finalizer()

    def __enter__(self) -> Self:
        self._portal.run(self._rlm.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_open: weakref.WeakSet[RLM] = weakref.WeakSet()


def _close_all() -> None:
    for rlm in list(_open):
        rlm.close()


# Closing takes threads, and an executor's take no work once Python's end has told them of it, which is before atexit.
# What is registered here comes earlier, the last one first: so theirs, by the import above, comes after ours.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


def _close(rlm: AsyncRLM, portal: Portal) -> None:
    if not portal.is_ours:
        return
    if portal.is_here:  # collected in the very thread that has to do the work
        threading.Thread(target=_close, args=(rlm, portal)).start()
        return
    with suppress(RlmError):  # closed already
        portal.run(rlm.close())
    portal.close()
