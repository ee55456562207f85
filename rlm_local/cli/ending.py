"""Signals that ask a command to end: it ends what it has started first."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "ended with its terminal"}


class Ended(Exception):
    """A signal asked us to end, and everything that was started has ended."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.signal = number

    @property
    def exit_code(self) -> int:
        """As shells report it."""
        return 128 + self.signal


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Cancel this task when a signal asks for it, and raise Ended once the block has been left for that."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # we are in one
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(number, end, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
        raise Ended(received[0]) from None
