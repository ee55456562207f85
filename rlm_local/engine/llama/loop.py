"""The one thread that computes: it takes in requests between two steps and sleeps when there are none."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from rlm_local.engine.llama.interrupt import Aborted
from rlm_local.engine.llama.request import Request
from rlm_local.engine.llama.scheduler import Scheduler
from rlm_local.errors import EngineError

T = TypeVar("T")


class DecodeLoop:
    """Runs a scheduler on a thread of its own until close(). Every method may be called from any thread."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        self._inbox.put(lambda: self._scheduler.submit(request))

    def cancel(self, request: Request) -> None:
        self._scheduler.interrupt(request)
        self._inbox.put(lambda: None)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function between two steps."""
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(function())
            except Exception as error:
                result.set_exception(error)

        self._inbox.put(run)
        return result

    def close(self) -> None:
        """End all requests and the thread. Nothing may be submitted after."""
        self._closing = True
        self._inbox.put(lambda: None)
        self._thread.join()

    def _run(self) -> None:
        busy = False
        while not self._closing:
            self._take_in(wait=not busy)
            try:
                busy = self._scheduler.step()
            except Exception as error:  # a mistake of ours; its requests must not wait for ever
                traceback.print_exc(file=sys.stderr)
                self._scheduler.fail_all(EngineError(f"the engine made a mistake: {error!r}"))
                busy = False
        self._take_in(wait=False)
        self._scheduler.fail_all(Aborted("the engine is being stopped"))

    def _take_in(self, *, wait: bool) -> None:
        if wait:
            self._inbox.get()()
        while True:
            try:
                self._inbox.get_nowait()()
            except queue.Empty:
                return
