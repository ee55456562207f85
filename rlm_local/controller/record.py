"""A run that goes on: what its trace holds is checked, and not told again."""

from __future__ import annotations

from rlm_local.controller.clock import Clock
from rlm_local.controller.past import Past, timeless
from rlm_local.errors import TraceError
from rlm_local.events import Event, SubCallDone
from rlm_local.ports import Recorder


class Record:
    """A Recorder that hands on what the past does not hold yet.

    Where an event is not the one that was recorded, `past.on_difference` is called with both. Without that it raises
    TraceError, but for sub-calls: code that looks at the time may ask otherwise, and what it asks now counts.
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
        elif isinstance(event, SubCallDone):
            self._recorder.write(event)
        else:
            raise TraceError(
                f"the run cannot go on from its trace: its {type(event).__name__} came out otherwise this time",
                hint="the trace was written by another build of rlm-local; run the question again",
            )
