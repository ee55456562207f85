"""What happened in a run: written as it happens, read back exactly, drawn as lines."""

from rlm_local.trace.codec import decode_event, encode_event
from rlm_local.trace.compare import differences
from rlm_local.trace.reader import Trace, read_trace
from rlm_local.trace.render import event_lines, run_lines, summary_lines
from rlm_local.trace.visible import visible
from rlm_local.trace.writer import TRACE_VERSION, TraceWriter, Written, default_path

__all__ = [
    "TRACE_VERSION",
    "Trace",
    "TraceWriter",
    "Written",
    "decode_event",
    "default_path",
    "differences",
    "encode_event",
    "event_lines",
    "read_trace",
    "run_lines",
    "summary_lines",
    "visible",
]
