"""Ctrl-C for programs that tests start."""

from __future__ import annotations

import signal


def hear_interrupts() -> None:
    """Have SIGINT interrupt this process; a preexec_fn, because a shell's & has it ignored and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
