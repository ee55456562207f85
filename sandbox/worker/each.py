"""ask_each(): one question to every document, each answered from its own passages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sandbox.worker.calls import Calls
from sandbox.worker.corpus import Corpus
from sandbox.worker.search import Search, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SURE = 0.6  # of a yes: with 0.5 the 1.5B model finds a clause in half of the contracts that have none (21 looked at)
_NOTHING = "(no passage of this document has a word of the question)"


class AskEach:
    """The REPL name `ask_each`. report: told the span of every passage that a sub-model is given."""

    def __init__(self, corpus: Corpus, calls: Calls, report: Callable[[Sequence[Span]], None]) -> None:
        self._corpus = corpus
        self._calls = calls
        self._report = report

    def __call__(
        self,
        question: str,
        labels: Sequence[str] | None = None,
        documents: object = None,
        limit: int = 3,
        chars: int = 400,
    ) -> dict[str, Any]:
        """Return what a language model answers to the question for each document, by its name.

        It reads the passages of that document that search() finds. labels: what an answer may be, as ["yes", "no"];
        by default any text. documents: as timeline() takes them. limit, chars: how many passages of a document, and
        how long. Prints how many documents have which label. An answer that failed is None.
        """
        if not isinstance(question, str) or not question.strip():
            raise TypeError("ask_each() takes a question, a text with words")
        chosen = self._corpus.some(documents)
        number = f"{len(chosen)} {'document' if len(chosen) == 1 else 'documents'}"
        passages = []
        for document in chosen:
            search = Search(self._corpus.only([document]), self._report_of(self._corpus.index_of(document)))
            found = search(question, limit=limit, chars=chars, show=False)
            passages.append(str(found) if found else _NOTHING)
        answers = self._answers(passages, question, labels)
        counts = Counter(map(str, answers)) if labels else Counter()
        told = [f"{name} {count}" for name, count in counts.most_common()]
        print("; ".join([f"ask_each: {number}", *([", ".join(told)] if told else [])]))
        return {document.name: answer for document, answer in zip(chosen, answers, strict=True)}

    def _answers(self, passages: list[str], question: str, labels: Sequence[str] | None) -> list[Any]:
        if labels and sorted(map(str, labels)) == ["no", "yes"]:
            # Not llm_classify: it learns from its items what a model prefers, as if there were as many of each label.
            met = self._calls.meet(passages, question, sure=SURE)
            return [None if one is None else "yes" if one else "no" for one in met]
        asked = [f"{text}\n\nQuestion: {question}" for text in passages]
        return self._calls.llm_query_batched(asked, choices=labels)

    def _report_of(self, index: int) -> Callable[[Sequence[Span]], None]:
        """Return what tells of a document's spans under its own number: in a corpus of one it is the first."""
        return lambda spans: self._report([(index, start, end) for _, start, end in spans])
