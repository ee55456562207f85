"""Questions to children: each a node of its own below this one, or a plain sub-call at the last level."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from rlm_local.controller.budget import Budget
from rlm_local.controller.recurse import SubCalls
from rlm_local.controller.tree import Place, Tree
from rlm_local.errors import ConfigError
from rlm_local.events import DocumentInfo, NodeEnded, NodeStarted
from rlm_local.limits import Limits
from rlm_local.prompts import shown_head
from rlm_local.types import Answer, CallForm, ChildAsk, Corpus, Document, Request, Span, SubCall, Usage

TIME_SHARE = 0.8  # of the seconds that its parent has before it must answer
MIN_TURNS_TOKENS = 2  # a share below so many turns is not worth a node


def may_recurse(limits: Limits, tree: Tree, place: Place) -> bool:
    """Say whether a node's questions go to children; at the last level they are plain sub-calls."""
    return place.depth + 1 < limits.max_depth and tree.open_child is not None


class Children:
    """Answers rlm_query for one node. Implements ports.RecurseHandler by being called."""

    def __init__(
        self,
        tree: Tree,
        place: Place,
        request: Request,
        corpus: Corpus,
        subcalls: SubCalls,
        *,
        turn: Callable[[], int],
        on_done: Callable[[int, SubCall], None],
    ) -> None:
        self._tree = tree
        self._place = place
        self._request = request
        self._corpus = corpus
        self._subcalls = subcalls
        self._turn = turn
        self._on_done = on_done
        self._made = 0
        self.read: list[Span] = []  # of this node's documents, by its children

    async def __call__(self, asks: Sequence[ChildAsk]) -> Sequence[SubCall]:
        """Answer all questions, side by side, in the order given."""
        if not may_recurse(self._request.limits, self._tree, self._place):
            return await self._plainly(asks)
        self._subcalls.plan(len(asks))
        # Numbered and given their shares before the first of them runs, so that both are the same every time.
        share = self._share(len(asks))
        if isinstance(share, str):
            return [self._refused(ask, share) for ask in asks]
        first, self._made = self._made + 1, self._made + len(asks)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._one(f"{self._place.id}.{number}", ask, share))
                    for number, ask in enumerate(asks, first)
                ]
        except ExceptionGroup as failed:  # whose fault it is must be told by type, as everywhere else
            raise failed.exceptions[0] from failed
        return [task.result() for task in tasks]

    async def _plainly(self, asks: Sequence[ChildAsk]) -> Sequence[SubCall]:
        prompts = [f"{_text_of(ask, self._corpus)}\n\nQuestion: {ask.question}" for ask in asks]
        return await self._subcalls(prompts, CallForm())

    def _share(self, count: int) -> Limits | str:
        """Return what each of so many children may spend, or why none can be asked."""
        budget, limits = self._place.budget, self._request.limits
        if budget.remaining_subcalls < count:
            return f"{count} questions, but only {max(0, budget.remaining_subcalls)} sub-calls of this run are left"
        tokens = budget.left_for_calls() // count
        least = MIN_TURNS_TOKENS * (limits.turn_tokens + limits.answer_tokens)
        if tokens < least:
            return f"a child needs {least} tokens and more, but for each of {count} only {tokens} are left"
        cost = None if limits.max_cost is None else budget.cost_left_for_calls() / count
        if cost is not None and cost <= 0:
            return f"of the money for this run nothing is left for {count} questions"
        return replace(
            limits,
            max_tokens=tokens,
            max_cost=cost,
            max_subcalls=budget.remaining_subcalls // count,  # the child itself is the first of them
            wall_s=max(0.001, TIME_SHARE * budget.remaining_s),
        )

    async def _one(self, node: str, ask: ChildAsk, share: Limits) -> SubCall:
        number = self._subcalls.next_number()
        async with self._tree.level(self._place.depth + 1):
            answer = await self._run(node, ask, share)
        if isinstance(answer, Answer) and not ask.text:
            self.read += _read_by(answer, ask, len(self._corpus.documents))
        if isinstance(answer, str):
            subcall = SubCall(ask.question, "", Usage(), refused=answer, node=node)
        else:
            unsure = "" if answer.confirmed else f" (unconfirmed: {answer.reason})"
            text = "" if answer.value is None else answer.text
            subcall = SubCall(ask.question, f"{text or 'no answer'}{unsure}", answer.usage, node=node)
        self._on_done(number, subcall)
        return subcall

    async def _run(self, node: str, ask: ChildAsk, share: Limits) -> Answer | str:
        """Return a child's answer, or why it could not begin."""
        past = self._tree.past
        share = past.share(node) or share
        documents, whole = _documents(ask, self._corpus)
        infos = tuple(DocumentInfo(document.name, len(document.text), "", "") for document in documents)
        head = shown_head(self._tree.profile, documents)
        started = NodeStarted(node, self._place.id, self._turn(), ask.question, infos, ask.spans, share, head)
        self._tree.recorder.write(started)
        budget = Budget(share, parent=self._place.budget)
        budget.book(1, Usage())
        place = Place(node, self._place.depth + 1, budget)
        ended = past.ended(node)
        if ended is not None and not past.redo:
            self._tree.memory.recall_below(node)
            budget.book(ended.subcalls - 1, ended.usage, ended.remembered)
            return ended
        request = Request(ask.question, documents, share, self._request.grammar)
        try:
            answer = await self._tree.run_child(self._tree, request, self._corpus if whole else None, place)
        except ConfigError as error:
            return str(error)
        self._tree.recorder.write(NodeEnded(node, answer))
        return answer

    def _refused(self, ask: ChildAsk, why: str) -> SubCall:
        subcall = SubCall(ask.question, "", Usage(), refused=why)
        self._on_done(self._subcalls.next_number(), subcall)
        return subcall


def _documents(ask: ChildAsk, corpus: Corpus) -> tuple[tuple[Document, ...], bool]:
    """Return a child's documents, and whether they are all of its parent's."""
    if ask.text:
        return (Document("text", ask.text),), False
    if not ask.spans:
        return corpus.documents, True
    documents = []
    for number, span in enumerate(ask.spans, start=1):
        document = corpus.documents[span.document]
        if (span.start, span.end) == (0, len(document.text)):
            documents.append(document)
        else:
            name = f"{document.name}, {span.start:,} to {span.end:,}"
            documents.append(Document(name, document.text[span.start : span.end]))
        if any(documents[-1].name == earlier.name for earlier in documents[:-1]):
            documents[-1] = replace(documents[-1], name=f"{documents[-1].name} ({number})")
    return tuple(documents), False


def _read_by(answer: Answer, ask: ChildAsk, count: int) -> Iterator[Span]:
    """Yield what a child has read, as spans of its parent's documents."""
    places = [(span.document, span.start) for span in ask.spans] or [(index, 0) for index in range(count)]
    for (document, offset), one in zip(places, answer.coverage, strict=False):
        for stretch in (*one.printed, *one.given):
            yield Span(document, offset + stretch.start, offset + stretch.end)


def _text_of(ask: ChildAsk, corpus: Corpus) -> str:
    if ask.text:
        return ask.text
    if not ask.spans:
        return str(corpus.context)
    return "\n\n".join(corpus.documents[span.document].text[span.start : span.end] for span in ask.spans)
