"""One pull or removal of a model at a time, across processes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlm_local.store.progress import Progress


@contextmanager
def holding(path: Path, what: str, progress: Progress) -> Iterator[None]:
    """Hold the lock file at `path`; wait for whoever holds it, and say so once.

    The kernel lets go of it when the holder dies. The file stays: deleting it would give two pulls two locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"another rlm-local is at work on {what}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
