"""table(): the lines of a text as rows of named fields."""

from __future__ import annotations

from collections.abc import Iterator

from rlm_local.rows import Row, rows_of
from sandbox.worker.corpus import Corpus
from sandbox.worker.passages import passages_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rlm_local.rows import Line


class Table:
    """The REPL name `table`."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def __call__(self, text: object = None, sep: str | None = None) -> list[Row]:
        """Return the rows of a text, or of all documents, and print how many there are and what their fields are.

        text: a str, a document, a passage, or a list of them; sep: what stands between fields, by default what most
        lines have in common. Whole numbers and numbers with a point are int and float, days "YYYY-MM-DD", where all of
        a field are; all else is str. The last field takes what is left of its line. Lines that have not enough fields
        are no rows.
        """
        rows, told = rows_of(list(self._lines(text)), sep or "")
        print(f"table: {told}")
        return rows

    def _lines(self, text: object) -> Iterator[Line]:
        """Yield the lines that hold something. Raises TypeError for what is no text."""
        for passage in passages_of(text, self._corpus, "table"):
            for number, line in enumerate(passage.text.split("\n"), start=passage.line):
                if line.strip():
                    yield passage.document, number, line.rstrip("\r")
