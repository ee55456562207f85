"""What is known of a run before it begins: its own trace, where it goes on or is gone through again."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from rlm_local.events import (
    Abandoned,
    Event,
    ItemReply,
    ItemsReplied,
    NodeEnded,
    NodeStarted,
    PageDone,
    Replied,
    Routed,
    RunEnded,
    RunResumed,
    RunStarted,
    Spent,
    SubCallDone,
    TokensCounted,
    TurnStarted,
    TurnTaken,
    TurnWritten,
    Validated,
)
from rlm_local.limits import Limits
from rlm_local.types import Action, Answer, Cell, CellResult, FinalVar, Reply, SubCall, Usage

Key: TypeAlias = tuple[str, str, int, int]


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it was recorded."""

    event: Event
    at_s: float  # since the start of the run


@dataclass(frozen=True, slots=True)
class PastCell:
    """A cell that ran to its end, with its sub-calls and pages put back into its result."""

    code: str
    result: CellResult
    spent: Spent
    at_s: float  # when the model was told


class _PastItem:
    """A reply that is found by its request and by its turn, and taken once."""

    __slots__ = ("_item",)

    def __init__(self, item: ItemReply) -> None:
        self._item: ItemReply | None = item

    def take(self) -> ItemReply | None:
        item, self._item = self._item, None
        return item


class Past:
    """The replies, counts and turns of a trace. What is taken from it once is used up; counts are not.

    redo: cells are to be run again and compared, not taken for what they came to.
    """

    def __init__(self, events: Sequence[Event] = (), times_s: Sequence[float] = (), *, redo: bool = False) -> None:
        self.redo = redo
        # Called with a recorded event and the one that came in its place; None: see Record.
        self.on_difference: Callable[[Event, Event], None] | None = None
        self.counts: dict[str, int] = {}  # tokens by digest of the text
        self.ended_at_s = times_s[-1] if times_s else 0.0
        self._abandoned: list[Abandoned] = []
        self._replies: defaultdict[str, deque[Replied]] = defaultdict(deque)
        self._items: defaultdict[str, deque[_PastItem]] = defaultdict(deque)
        self._items_of: defaultdict[tuple[str, int], list[_PastItem]] = defaultdict(list)
        self._started: dict[str, NodeStarted] = {}
        self._ended: dict[str, Answer] = {}
        self._told: dict[Key, Told] = {}
        self._subcalls: defaultdict[tuple[str, int], dict[int, SubCall]] = defaultdict(dict)
        self._pages: defaultdict[tuple[str, int], dict[int, PageDone]] = defaultdict(dict)
        self._taken: dict[tuple[str, int], tuple[TurnTaken, float]] = {}
        self._complaints: dict[tuple[str, int], str] = {}
        for event, at_s in zip(events, times_s, strict=True):
            self._add(event, at_s)

    def reply(self, request: str) -> Reply | None:
        """Take the next recorded reply to this request, None when there is none."""
        waiting = self._replies.get(request)
        return waiting.popleft().reply if waiting else None

    def item(self, request: str) -> Reply | None:
        """Take the next recorded reply to this request of a typed call, None when there is none."""
        waiting = self._items.get(request, deque())
        while waiting:
            if (reply := waiting.popleft().take()) is not None:
                return reply.reply
        return None

    def items(self, node: str, turn: int) -> list[ItemReply]:
        """Take all that the typed calls of a turn were replied."""
        return [item for one in self._items_of.pop((node, turn), ()) if (item := one.take()) is not None]

    def replies(self, node: str, turn: int) -> list[Replied]:
        """Take all that a turn was replied."""
        taken = [one for waiting in self._replies.values() for one in waiting if (one.node, one.turn) == (node, turn)]
        for one in taken:
            self._replies[one.request].remove(one)
        return taken

    def share(self, node: str) -> Limits | None:
        """Return what a child was given to spend; None when it has not begun."""
        started = self._started.get(node)
        return None if started is None else started.limits

    def ended(self, node: str) -> Answer | None:
        """Return the answer that a child has come to; None when it has not ended."""
        return self._ended.get(node)

    def turns_below(self, node: str) -> list[tuple[str, int]]:
        """Return every turn of a node and its descendants that replies were paid for."""
        below = {(one.node, one.turn) for waiting in self._replies.values() for one in waiting}
        below |= self._items_of.keys()
        return sorted((of, turn) for of, turn in below if of == node or of.startswith(f"{node}."))

    def abandoned(self) -> Usage:
        """Return what requests have cost that were cancelled in turns that are not over."""
        return sum((one.usage for one in self._abandoned if (one.node, one.turn) not in self._taken), Usage())

    def told(self, event: Event) -> Told | None:
        """Take the recorded event that says the same as this one: of the same kind, at the same place."""
        return self._told.pop(key_of(event), None)

    def untold(self) -> list[Event]:
        """Return the recorded events that were not taken."""
        return [told.event for told in self._told.values()]

    def elapsed_s(self, node: str, turn: int) -> float | None:
        """Return a node's seconds when a turn was told; None for one that is not over."""
        taken = self._taken.get((node, turn))
        return None if taken is None else taken[0].elapsed_s

    def complaint(self, node: str, turn: int) -> str | None:
        """Return what the caller's check said of a turn's answer; None where it was not asked."""
        return self._complaints.get((node, turn))

    def cell(self, node: str, turn: int) -> PastCell | None:
        """Return the cell of a turn that is over; None when it is not, or had none."""
        if (node, turn) not in self._taken:
            return None
        taken, at_s = self._taken[node, turn]
        result = taken.turn.result
        if result is None:
            return None
        made, pages = self._subcalls[node, turn], self._pages[node, turn]
        whole = replace(
            result,
            subcalls=tuple(made[number] for number in sorted(made)),
            pages=tuple(pages[number].page for number in sorted(pages)),
        )
        return PastCell(code_of(taken.turn.action), whole, taken.spent, at_s)

    def compare(self, node: str, turn: int, result: CellResult) -> CellResult:
        """Return what a cell that ran again came to when it was recorded; a difference is told."""
        taken, _ = self._taken[node, turn]
        now = replace(taken, turn=replace(taken.turn, result=replace(result, subcalls=(), pages=())))
        if self.on_difference is not None and timeless(now) != timeless(taken):
            self.on_difference(taken, now)
        recorded = self.cell(node, turn)
        return recorded.result if recorded is not None else result

    def cells(self, node: str) -> list[PastCell]:
        """Return the cells of a node that are over, in their order."""
        numbers = sorted(number for of, number in self._taken if of == node)
        return [cell for number in numbers if (cell := self.cell(node, number)) is not None]

    def _add_items(self, event: ItemsReplied) -> None:
        for item in event.replies:
            one = _PastItem(item)
            self._items[item.request].append(one)
            self._items_of[event.node, event.turn].append(one)

    def _add(self, event: Event, at_s: float) -> None:
        match event:
            case Replied():
                self._replies[event.request].append(event)
                return
            case ItemsReplied():
                self._add_items(event)
                return
            case Abandoned():
                self._abandoned.append(event)
                return
            case TokensCounted():
                self.counts[event.text] = event.tokens
                return
            case RunStarted() | Routed() | RunResumed() | RunEnded():
                return  # a run that goes on ends anew
            case SubCallDone():
                self._subcalls[event.node, event.turn][event.number] = event.subcall
            case PageDone():
                self._pages[event.node, event.turn][event.number] = event
            case NodeStarted():
                self._started[event.node] = event
            case NodeEnded():
                self._ended[event.node] = event.answer
            case Validated():
                self._complaints[event.node, event.turn] = event.complaint
            case TurnTaken():
                self._taken[event.node, event.number] = (event, at_s)
        self._told[key_of(event)] = Told(event, at_s)


def code_of(action: Action) -> str:
    """Return what is run for an action; empty where nothing is."""
    match action:
        case Cell():
            return action.code
        case FinalVar():
            return f"FINAL_VAR({action.name!r})"
        case _:
            return ""


def key_of(event: Event) -> Key:
    """Return what tells where in a run an event belongs, apart from what it says."""
    match event:
        case NodeStarted() | NodeEnded():
            return (type(event).__name__, event.node, 0, 0)
        case TurnStarted() | TurnWritten() | TurnTaken():
            return (type(event).__name__, event.node, event.number, 0)
        case Validated():
            return (type(event).__name__, event.node, event.turn, 0)
        case SubCallDone() | PageDone():
            return (type(event).__name__, event.node, event.turn, event.number)
        case _:
            return (type(event).__name__, "", 0, 0)


def timeless(event: Event) -> Event:
    """Return an event without the seconds that something took, which are never the same twice."""
    if isinstance(event, NodeEnded):
        return replace(event, answer=replace(event.answer, wall_s=0.0))
    if not isinstance(event, TurnTaken):
        return event
    result = event.turn.result
    turn = event.turn if result is None else replace(event.turn, result=replace(result, elapsed_s=0.0))
    return replace(event, turn=turn, elapsed_s=0.0)
