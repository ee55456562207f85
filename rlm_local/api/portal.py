"""An event loop in a thread of its own, for code that has none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from rlm_local.errors import RlmError

T = TypeVar("T")


class Portal:
    """Runs coroutines for other threads. The thread is there from the first one to close()."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._pid = os.getpid()
        self._is_closed = False

    @property
    def is_ours(self) -> bool:
        """Say whether the thread is one of this process: a fork has the object, and not the thread."""
        return self._pid == os.getpid()

    @property
    def is_here(self) -> bool:
        """Say whether the caller's thread is the portal's own."""
        return threading.current_thread() is self._thread

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns. Ctrl-C meanwhile cancels it, and is raised once it has ended."""
        try:
            loop = self._running()
        except RlmError:
            work.close()
            raise
        done: Future[T] = Future()
        begun: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = loop.create_task(work)
            begun.append(task)
            task.add_done_callback(lambda ended: _copy(ended, done))

        def cancel() -> None:
            if not begun:  # Ctrl-C came first
                begin()
            begun[0].cancel()

        try:
            loop.call_soon_threadsafe(begin)
            return done.result()
        except BaseException:
            if not done.done():
                loop.call_soon_threadsafe(cancel)
                wait([done])
            raise

    def close(self) -> None:
        """End the loop and its thread. Safe to call twice."""
        with self._starting:
            was_closed, self._is_closed = self._is_closed, True
        if was_closed or self._loop is None or self._thread is None or not self.is_ours:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        if not self.is_here:
            self._thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        if not self.is_ours:
            raise RlmError("this RLM belongs to the process that made it; make another one after a fork")
        with self._starting:
            if self._is_closed:
                raise RlmError("this RLM is closed; make another one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon: Python's end must not wait for a run that nobody waits for any more.
                self._thread = threading.Thread(target=_turn, args=(self._loop,), name="rlm-local", daemon=True)
                self._thread.start()
        if self.is_here:
            raise RlmError("RLM was called from one of its own callbacks, which would wait for itself; use AsyncRLM")
        return self._loop


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _copy(ended: asyncio.Task[T], done: Future[T]) -> None:
    if ended.cancelled():
        done.cancel()
        done.set_running_or_notify_cancel()  # or wait() would not hear of it
    elif (error := ended.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(ended.result())
