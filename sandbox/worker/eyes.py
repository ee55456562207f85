"""The REPL name `search` until it is first used: what searching needs takes longer to import than a jail to start."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.worker.corpus import Corpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.worker.passages import Matches
    from sandbox.worker.search import Pattern, Search, Span


class Eyes:
    """Calls Search, which it makes when it is needed."""

    def __init__(self, corpus: Corpus, report: Callable[[Sequence[Span]], None]) -> None:
        self._corpus = corpus
        self._report = report
        self._search: Search | None = None

    def __repr__(self) -> str:
        return "<search(pattern, limit=None, chars=400, case=False, regex=True, show=True)>"

    def __call__(self, pattern: Pattern | Sequence[Pattern], *arguments: object, **options: object) -> Matches:
        if self._search is None:
            from sandbox.worker.search import Search

            self._search = Search(self._corpus, self._report)
        return self._search(pattern, *arguments, **options)  # type: ignore[arg-type]  # it tells what is wrong itself
