"""Loaded by schemathesis in `python -m bench fuzz-api`: what it draws is made to reach the engine, and to end soon.

A model's name that is drawn is never one that is served, and a run that is drawn takes minutes. So most bodies get a
name that is served and bounds; nothing else of them is touched, and one in eight is left as it is.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import schemathesis

_MODEL = os.environ["RLM_FUZZ_MODEL"]
_BOUNDS = {"max_turns": 2, "max_subcalls": 2, "max_seconds": 2}
_LEFT_ALONE = 8  # one in so many


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_body(context: Any, body: Any) -> Any:
    """Return a body that is asked of a model that is served."""
    if not isinstance(body, dict) or not {"messages", "documents", "input"} & set(body):
        return body
    dice = zlib.crc32(json.dumps(body, sort_keys=True, default=str).encode())
    if dice % _LEFT_ALONE == 0:
        return body
    served = _MODEL if dice & 64 or "documents" in body else f"{_MODEL}:direct"
    changed = {**body, "model": served} if isinstance(body.get("model", ""), str) else dict(body)
    if "documents" in body:
        return {**changed, "limits": _bounded(body.get("limits", {}))}
    if served == _MODEL:
        return {**changed, "rlm": _bounded(body.get("rlm", {}))}
    return {"max_tokens": 4, **changed}


def _bounded(drawn: Any) -> Any:
    return {**drawn, **_BOUNDS} if isinstance(drawn, dict) else _BOUNDS if drawn is None else drawn
