"""The tools that read the documents, by name; each is imported when a cell first calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sandbox.worker.corpus import Corpus
from sandbox.worker.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.worker.search import Span


def reading_tools(
    corpus: Corpus, report: Callable[[Sequence[Span]], None], limits: Callable[[], Mapping[str, object]]
) -> dict[str, Later]:
    """Return them. report: told the span of every passage that search() found; limits: the cell's LIMITS."""

    def search() -> Callable[..., object]:
        from sandbox.worker.search import Search

        return Search(corpus, report)

    def table() -> Callable[..., object]:
        from sandbox.worker.table import Table

        return Table(corpus)

    def chunks() -> Callable[..., object]:
        from sandbox.worker.chunks import Chunks

        return Chunks(corpus, limits)

    return {
        "search": Later("search(pattern, limit=None, chars=400, case=False, regex=True, show=True)", search),
        "table": Later("table(text=None, sep=None)", table),
        "chunks": Later("chunks(text=None, chars=None, tokens=None, lines=None, headings=False, overlap=0)", chunks),
    }
