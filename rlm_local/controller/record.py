"""A run that goes on: what its trace holds is checked, and not told again."""

from __future__ import annotations

from collections.abc import Callable

from rlm_local.controller.clock import Clock
from rlm_local.controller.past import Past, timeless
from rlm_local.errors import RunDiffers
from rlm_local.events import Event, PageDone, Spent, SubCallDone
from rlm_local.ports import Recorder
from rlm_local.types import Page, SubCall


class Record:
    """A Recorder that hands on what the past does not hold yet.

    Where an event is not the one that was recorded, `past.on_difference` is called with both. Without that it raises
    RunDiffers, but for sub-calls: code that looks at the time may ask otherwise, and what it asks now counts.
    """

    def __init__(self, recorder: Recorder, past: Past, clock: Clock) -> None:
        self._recorder = recorder
        self._past = past
        self._clock = clock

    def write(self, event: Event) -> None:
        """See ports.Recorder."""
        told = self._past.told(event)
        if told is None:
            self._recorder.write(event)
            return
        self._clock.tell(told.at_s)
        if timeless(told.event) == timeless(event):
            return
        if self._past.on_difference is not None:
            self._past.on_difference(told.event, event)
        elif isinstance(event, SubCallDone | PageDone):
            self._recorder.write(event)
        else:
            raise RunDiffers(
                f"the run cannot go on from its trace: its {type(event).__name__} came out otherwise this time",
                hint="the trace was written by another build of rlm-local; run the question again",
            )


class CallRecord:
    """Where the calls of one node's cells are told. turn: the number of the turn that goes on."""

    def __init__(self, recorder: Recorder, node: str, *, turn: Callable[[], int]) -> None:
        self._recorder = recorder
        self._node = node
        self._turn = turn

    def done(self, number: int, subcall: SubCall) -> None:
        self._recorder.write(SubCallDone(self._node, self._turn(), number, subcall))

    def page(self, number: int, page: Page, spent: Spent) -> None:
        """Tell of a frame of a typed call, and of what it has cost."""
        self._recorder.write(PageDone(self._node, self._turn(), number, page, spent))
