"""Running one cell: compile, execute, show the last expression, and word what went wrong as Python does."""

from __future__ import annotations

import sys
from _ast import Call, Constant, Expr, Expression, Module, Name, PyCF_ONLY_AST  # `ast` adds what compiling needs not
from collections.abc import Iterator

from sandbox.worker.slips import refuse_slips
from sandbox.worker.usual import import_usual

TYPE_CHECKING = False
if TYPE_CHECKING:
    import traceback
    from _ast import expr
    from types import CodeType
    from typing import Any

_ERROR_CHARS = 8000  # a longer traceback keeps its head and its tail
_SHOWN_CHARS = 4000  # of the last expression's repr
_SELF_PRINTING = frozenset({"print", "search", "SHOW_VARS", "FINAL", "FINAL_VAR", "SUBMIT", "exit", "quit"})
_SOURCES_KEPT = 64
_SOURCE_READERS = ("inspect", "linecache", "traceback")
_SEED = 0  # a replayed cell draws the same numbers

_sources: dict[str, str] = {}  # by file name


class Cell:
    """One cell's code under the file name that its tracebacks show."""

    def __init__(self, cell_id: int, code: str) -> None:
        self.name = f"<cell {cell_id}>"
        self._code = code
        _sources[self.name] = code
        _sources.pop(f"<cell {cell_id - _SOURCES_KEPT}>", None)
        if "linecache" in sys.modules or any(name in code for name in _SOURCE_READERS):
            show_sources()
        _seed_if_used(code)

    def run(self, variables: dict[str, Any]) -> None:
        """Execute the cell, and print its last expression as a notebook would."""
        body, last = self._compiled()
        refuse_slips(self._code)
        import_usual([body] if last is None else [body, last], self._code, variables)
        exec(body, variables)
        if last is not None:
            value = eval(last, variables)
            if value is not None:
                print(_shortened(_shown(value), _SHOWN_CHARS))

    def _compiled(self) -> tuple[CodeType, CodeType | None]:
        tree: Module = compile(self._code, self.name, "exec", PyCF_ONLY_AST, dont_inherit=True)  # type: ignore[assignment]
        last = tree.body[-1] if tree.body else None
        if isinstance(last, Expr) and not _prints_itself(last.value):
            del tree.body[-1]
            shown = compile(Expression(last.value), self.name, "eval", dont_inherit=True)
            return compile(tree, self.name, "exec", dont_inherit=True), shown
        return compile(tree, self.name, "exec", dont_inherit=True), None


def _prints_itself(expression: expr) -> bool:
    return (
        isinstance(expression, Call)
        and isinstance(expression.func, Name)
        and expression.func.id in _SELF_PRINTING
        and not any(_is_false(keyword.value) for keyword in expression.keywords if keyword.arg == "show")
    )


def _is_false(expression: expr) -> bool:
    return isinstance(expression, Constant) and expression.value is False


def _shown(value: object) -> str:
    """Return a value as a reader wants it: passages as their texts."""
    passages = sys.modules.get("sandbox.worker.passages")
    return str(value) if passages and isinstance(value, passages.Matches) else repr(value)


def _seed_if_used(code: str) -> None:
    """Seed `random` before a cell can draw from it: when the cell names it, or something has imported it."""
    if not _is_seeded and ("random" in sys.modules or "random" in code):
        import random

        random.seed(_SEED)
        _is_seeded.append(True)


_is_seeded: list[bool] = []


def show_sources() -> None:
    """Put the cells' lines where Python looks for those of a traceback. Without a time they are not sought on disk."""
    import linecache

    for name in [name for name in linecache.cache if name.startswith("<cell ") and name not in _sources]:
        del linecache.cache[name]
    for name, code in _sources.items():
        if name not in linecache.cache:
            linecache.cache[name] = (len(code), None, [f"{line}\n" for line in code.split("\n")], name)


def traceback_text(error: BaseException) -> str:
    """Return the traceback as Python prints it, without the worker's and the library's frames."""
    import traceback

    show_sources()
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
