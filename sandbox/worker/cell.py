"""Running one cell: compile, execute, show the last expression, and word what went wrong as Python does."""

from __future__ import annotations

import ast
import linecache
import traceback
from collections.abc import Iterator
from types import CodeType
from typing import Any

_ERROR_CHARS = 8000  # a longer traceback keeps its head and its tail
_SHOWN_CHARS = 4000  # of the last expression's repr
_SELF_PRINTING = frozenset({"print", "search", "SHOW_VARS", "FINAL", "FINAL_VAR", "SUBMIT", "exit", "quit"})
_SOURCES_KEPT = 64


class Cell:
    """One cell's code under the file name that its tracebacks show."""

    def __init__(self, cell_id: int, code: str) -> None:
        self.name = f"<cell {cell_id}>"
        self._code = code
        # Python finds the source lines of a traceback here; no modification time, so it is never checked on disk.
        lines = [f"{line}\n" for line in code.split("\n")]
        linecache.cache[self.name] = (len(code), None, lines, self.name)
        linecache.cache.pop(f"<cell {cell_id - _SOURCES_KEPT}>", None)

    def run(self, variables: dict[str, Any]) -> None:
        """Execute the cell, and print its last expression as a notebook would."""
        body, last = self._compiled()
        exec(body, variables)
        if last is not None:
            value = eval(last, variables)
            if value is not None:
                print(_shortened(repr(value), _SHOWN_CHARS))

    def _compiled(self) -> tuple[CodeType, CodeType | None]:
        tree = ast.parse(self._code, self.name)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr) and not _prints_itself(last.value):
            shown = compile(ast.Expression(tree.body.pop().value), self.name, "eval", dont_inherit=True)  # type: ignore[attr-defined]
            return compile(tree, self.name, "exec", dont_inherit=True), shown
        return compile(tree, self.name, "exec", dont_inherit=True), None


def _prints_itself(expression: ast.expr) -> bool:
    return (
        isinstance(expression, ast.Call)
        and isinstance(expression.func, ast.Name)
        and expression.func.id in _SELF_PRINTING
    )


def traceback_text(error: BaseException) -> str:
    """Return the traceback as Python prints it, without the worker's and the library's frames."""
    report = traceback.TracebackException.from_exception(error, compact=True)
    for part in _chain(report):
        part.stack[:] = [frame for frame in part.stack if frame.filename.startswith("<cell ")]
    lines = [
        line
        for line in report.format()
        if not line.endswith("Traceback (most recent call last):\n") or _has_frames(report)
    ]
    return _shortened("".join(lines).rstrip("\n"), _ERROR_CHARS)


def _chain(report: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    pending: list[traceback.TracebackException | None] = [report]
    seen: set[int] = set()
    while pending:
        part = pending.pop()
        if part is not None and id(part) not in seen:
            seen.add(id(part))
            yield part
            pending += [part.__cause__, part.__context__, *(part.exceptions or ())]


def _has_frames(report: traceback.TracebackException) -> bool:
    return any(part.stack for part in _chain(report))


def _shortened(text: str, chars: int) -> str:
    if len(text) <= chars:
        return text
    half = chars // 2
    return f"{text[:half]}\n... ({len(text)} characters in all) ...\n{text[-half:]}"
