"""A host with large documents forks without them, when it executes something, and with them when it does not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from rlm_local.jail.fork import left_out_of_fork

TEXT_BYTES = 32 << 20


def child_sees(text: str) -> bool:
    """Fork, and tell whether the child can read the text to its end."""
    child = os.fork()
    if child == 0:
        os._exit(0 if text.count("x") == len(text) else 1)
    return os.waitpid(child, 0)[1] == 0


def left_out_bytes() -> int:
    """Return how much of our memory the kernel leaves out of a fork."""
    left_out, size = 0, 0
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("Size:"):
            size = int(line.split()[1]) * 1024
        elif line.startswith("VmFlags:") and "dc" in line.split():
            left_out += size
    return left_out


def test_documents_are_left_out_while_something_is_executed_and_not_after() -> None:
    text, before = "x" * TEXT_BYTES, left_out_bytes()
    with left_out_of_fork([text, "short"]):
        assert 0 < TEXT_BYTES - (left_out_bytes() - before) < 8192
        done = subprocess.run(
            [sys.executable, "-c", "print(1)"], stdout=subprocess.PIPE, check=True, preexec_fn=os.getpid
        )
        assert done.stdout == b"1\n"
    assert left_out_bytes() == before
    assert child_sees(text)


def test_another_threads_fork_has_the_documents() -> None:
    text, seen = "x" * TEXT_BYTES, list[bool]()
    with left_out_of_fork([text]):
        thread = threading.Thread(target=lambda: seen.append(child_sees(text)))
        thread.start()
        thread.join()
    assert seen == [True]
