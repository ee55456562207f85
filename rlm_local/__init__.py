"""rlm-local: a recursive language model on your own machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["Answer", "AsyncRLM", "Document", "Limits", "Price", "RLM", "RlmError", "__version__"]  # noqa: RUF022 (as sorted)

if TYPE_CHECKING:
    from rlm_local.api import RLM, AsyncRLM
    from rlm_local.errors import RlmError
    from rlm_local.limits import Limits
    from rlm_local.price import Price
    from rlm_local.types import Answer, Document

_ROOM_BY_NAME = {
    "RLM": "api",
    "Answer": "types",
    "AsyncRLM": "api",
    "Document": "types",
    "Limits": "limits",
    "Price": "price",
    "RlmError": "errors",
}


def __getattr__(name: str) -> object:
    """Load what the door shows when it is first asked for: importing the package alone loads nothing."""
    from importlib import import_module

    if name not in _ROOM_BY_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM_BY_NAME[name]}"), name)
