"""A tool of the REPL until it is first used: what some of them need takes longer to import than a jail to start."""

from __future__ import annotations

from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Later:
    """Calls what `make` returns, which it makes when it is needed. signature: how it is shown, with its name."""

    def __init__(self, signature: str, make: Callable[[], Callable[..., Any]]) -> None:
        self._signature = signature
        self._make = make
        self._made: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"<{self._signature}>"

    def __call__(self, *arguments: object, **options: object) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made(*arguments, **options)  # it tells what is wrong with them itself
