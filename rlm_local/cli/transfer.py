"""Draws what the store is doing: a bar on a terminal, one plain line every tenth elsewhere. Always on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

GIB = 1 << 30
MIB = 1 << 20
_TENTHS = 10


class TransferView:
    """A store's Progress; use it as a context manager, so that the terminal is whole again afterwards."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._phase = ""
        self._tenth = 0
        self._task: TaskID | None = None
        self._bars: Bars | None = None
        if self._console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def advance(self, phase: str, done: int, total: int | None) -> None:
        if self._bars:
            if phase != self._phase or self._task is None:
                self._task = self._bars.add_task(phase, total=total)
            self._bars.update(self._task, completed=done, total=total)
        else:
            self._say_tenth(phase, done, total)
        self._phase = phase

    def _say_tenth(self, phase: str, done: int, total: int | None) -> None:
        """Print the phase when it begins and each time that another tenth (or GiB, when unsized) is done."""
        tenth = _TENTHS * done // total if total else done // GIB
        if phase != self._phase or tenth > self._tenth:
            share = f"{100 * done // total:3} %  " if total else ""
            of = f" of {size_text(total)}" if total else ""
            click.echo(f"{phase}: {share}{size_text(done)}{of}", err=True)
            self._tenth = tenth

    def note(self, line: str) -> None:
        if self._bars:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)


def size_text(size: int | None) -> str:
    """Return a size as a person reads it; None is unknown."""
    if size is None:
        return "unknown"
    if size >= GIB:
        return f"{size / GIB:.2f} GiB"
    return f"{size / MIB:.1f} MiB" if size >= MIB else f"{size} B"
