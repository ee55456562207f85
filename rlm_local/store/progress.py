"""How the store tells what it is doing. It never prints; whoever called it draws."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears of a pull or a check as it happens, in the thread that called the store."""

    def advance(self, phase: str, done: int, total: int | None) -> None:
        """Bytes done so far of this phase; a new phase text begins a new bar. total: None when unknown."""
        ...

    def note(self, line: str) -> None:
        """Something that a person should read once: a source that failed, a wait for another pull."""
        ...


class _Silent:
    def advance(self, phase: str, done: int, total: int | None) -> None:
        pass

    def note(self, line: str) -> None:
        pass


SILENT: Progress = _Silent()
