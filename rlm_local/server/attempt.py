"""What the attempt at a run that a server's end cut short has left to the next one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlm_local.controller import Past
from rlm_local.errors import TraceError
from rlm_local.events import RunEnded
from rlm_local.resume import past_of
from rlm_local.runtime import Runtime
from rlm_local.server.logs import log
from rlm_local.trace import Written, read_trace
from rlm_local.types import Answer, Request, StopReason


@dataclass(frozen=True, slots=True)
class Left:
    past: Past
    written: Written
    answer: Answer | None  # it had come to its end; there is nothing left to do
    booked: int  # tokens that its key has paid for: those until a server ended by itself


def read_left(path: Path, runtime: Runtime, request: Request) -> Left | None:
    """Return what the trace at `path` holds of this request's run; None where the run has to begin.

    That is: there is no trace, it is damaged, or model, prompts, window or documents are not those of the run any more.
    """
    if not path.exists():
        return None
    try:
        trace = read_trace(path)
        past = past_of(trace, runtime.started(request))
    except TraceError as error:
        log("run begins anew", run=path.stem, error=type(error).__name__)
        return None
    answer = trace.answer
    ends = [event.answer.usage.total_tokens for event in trace.events if isinstance(event, RunEnded)]
    if answer is not None and answer.stop is StopReason.CANCELLED:  # by a server that stopped
        answer = None
    return Left(past, Written(len(trace.events), trace.whole_bytes, trace.times_s[-1]), answer, max(ends, default=0))
