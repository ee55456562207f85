"""What the model reads after a turn."""

from __future__ import annotations

from rlm_local.types import CellResult, CellStatus

_ADVICE = {  # what happened to the session is in the error, in the jail's own words
    CellStatus.TIMEOUT: "It ran too long. Do less at once.",
    CellStatus.OUT_OF_MEMORY: "It used too much memory. Work on smaller pieces.",
    CellStatus.KILLED: "It crashed Python. Do it another way.",
}
NOTHING_PRINTED = "(nothing was printed; use print or search to see something)"


def observe(result: CellResult, *, max_chars: int) -> str:
    """Return what the model reads of a cell: stdout, then what stopped it, if anything did.

    Longer stdout keeps its head and its tail, and the gap tells how much is missing, so that the model can
    decide to look again with code.

    max_chars: budget for stdout alone; the status and the traceback come on top.
    Never contains a traceback of ours: a JailError is raised, not observed.
    Source: head, tail and true length as in DSPy, dspy/primitives/repl_types.py.
    """
    parts = []
    if result.stdout or result.stdout_tail:
        parts.append(_shown(result, max_chars).rstrip("\n"))
    if result.error:
        parts.append(_end(result.error.rstrip("\n"), max_chars // 2))
    if result.status in _ADVICE:
        parts.append(_ADVICE[result.status])
    return "\n".join(parts) or NOTHING_PRINTED


def _shown(result: CellResult, max_chars: int) -> str:
    if not result.truncated_bytes and len(result.stdout) <= max_chars:
        return result.stdout
    head_chars = max_chars * 3 // 4  # the first hits of a search are the ones that matter
    tail_source = result.stdout_tail or result.stdout
    head, tail = result.stdout[:head_chars], tail_source[-(max_chars - head_chars) :]
    if result.truncated_bytes:  # what never left the jail is counted in bytes, so all is
        kept, unit = len((head + tail).encode("utf-8", "replace")), "bytes"
        total = len((result.stdout + result.stdout_tail).encode("utf-8", "replace")) + result.truncated_bytes
    else:
        kept, unit, total = len(head) + len(tail), "characters", len(result.stdout)
    return f"{head}\n... ({total - kept:,} of {total:,} {unit} left out; print less) ...\n{tail}"


def _end(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else f"...\n{text[-max_chars:]}"
