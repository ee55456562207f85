"""The Python API: `from rlm_local import RLM`."""

from rlm_local.api.asking import Documents, Options, Settings, Validator
from rlm_local.api.asynchronous import AsyncRLM
from rlm_local.api.blocking import RLM

__all__ = ["RLM", "AsyncRLM", "Documents", "Options", "Settings", "Validator"]
