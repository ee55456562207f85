"""The tools that read the documents, by name; each is imported when a cell first calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.worker.calls import Calls
from sandbox.worker.corpus import Corpus
from sandbox.worker.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.worker.search import Span


def reading_tools(
    corpus: Corpus,
    calls: Calls,
    report: Callable[[Sequence[Span]], None],
    variable: Callable[[str], Any],
) -> dict[str, Later]:
    """Return them. report: told the span of every passage that was found; variable: a variable of the code, by name."""

    def search() -> Callable[..., object]:
        from sandbox.worker.search import Search

        return Search(corpus, report)

    def table() -> Callable[..., object]:
        from sandbox.worker.table import Table

        return Table(corpus)

    def chunks() -> Callable[..., object]:
        from sandbox.worker.chunks import Chunks

        return Chunks(corpus, lambda: variable("LIMITS"))

    def timeline() -> Callable[..., object]:
        from sandbox.worker.timeline import Timeline

        return Timeline(corpus, report)

    def ask_each() -> Callable[..., object]:
        from sandbox.worker.each import AskEach

        return AskEach(corpus, calls, report)

    def listed() -> Callable[..., object]:
        from sandbox.worker.listed import Listed

        return Listed(corpus, lambda: variable("question"))

    return {
        "search": Later("search(pattern, limit=None, chars=400, case=False, regex=True, show=True)", search),
        "table": Later("table(text=None, sep=None)", table),
        "chunks": Later("chunks(text=None, chars=None, tokens=None, lines=None, headings=False, overlap=0)", chunks),
        "timeline": Later("timeline(pattern, documents=None)", timeline),
        "listed": Later("listed(label, documents=None)", listed),
        "ask_each": Later("ask_each(question, labels=None, documents=None, limit=3, chars=400)", ask_each),
    }
