"""Loaded by schemathesis in `python -m bench fuzz-api`: what it draws is made to reach the engine, and to end soon.

A model's name that is drawn is never one that is served, and what is written without a bound takes minutes. So all
bodies get bounds and most a name that is served; a name that is wrong on purpose, being too long, stays.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import schemathesis

_MODEL = os.environ["RLM_FUZZ_MODEL"]
_BOUNDS = {"max_turns": 2, "max_subcalls": 2, "max_seconds": 2}
_SERVED = {"max_turns": (2, 64), "max_subcalls": (0, 1_000_000), "max_seconds": (0, 3_600)}  # by server/chat_request.py
_OWN_NAME = 8  # one in so many keeps the name that was drawn
_NAME_CHARS = 200  # of a model, at most
_TOKENS = 16
_MOST_TOKENS = 1 << 31


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_body(context: Any, body: Any) -> Any:
    """Return a body that is asked of a model that is served."""
    if not isinstance(body, dict) or not {"messages", "documents", "input"} & set(body):
        return body
    dice = zlib.crc32(json.dumps(body, sort_keys=True, default=str).encode())
    name = body.get("model")
    changed = dict(body)
    if dice % _OWN_NAME and isinstance(name, str) and len(name) <= _NAME_CHARS:
        name = changed["model"] = _MODEL if dice & 64 or "documents" in body else f"{_MODEL}:direct"
    if "documents" in body:
        return {**changed, "limits": _bounded(body.get("limits", {}))}
    if name == _MODEL:
        return {**changed, "rlm": _bounded(body.get("rlm", {}))}
    for field in ("max_tokens", "max_completion_tokens") if "messages" in body else ("max_output_tokens",):
        changed[field] = _capped(changed.get(field))
    return changed


def _capped(drawn: Any) -> Any:
    """Return a number of tokens that is soon written; what is none, or too large on purpose, stays."""
    if drawn is None:
        return _TOKENS
    return min(drawn, _TOKENS) if isinstance(drawn, int) and drawn < _MOST_TOKENS else drawn


def _bounded(drawn: Any) -> Any:
    """Return limits of a run that soon ends; what is wrong on purpose stays wrong."""
    if not isinstance(drawn, dict):
        return _BOUNDS if drawn is None else drawn
    return {**drawn, **{name: bound for name, bound in _BOUNDS.items() if _is_served(name, drawn.get(name))}}


def _is_served(name: str, drawn: Any) -> bool:
    low, high = _SERVED[name]
    return drawn is None or (type(drawn) in (int, float) and low <= drawn <= high)
