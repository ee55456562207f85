"""What a server takes and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_local.errors import ConfigError
from rlm_local.limits import MIB


@dataclass(frozen=True, slots=True)
class Settings:
    """Bounds of one server. Raises ConfigError for one that cannot be."""

    max_runs: int = 4  # at once; each has a jail of its own, and they share the engine
    max_direct: int = 64  # requests to the engine itself, at once
    max_queue: int = 64  # that wait for a place, of each of the two
    max_body_bytes: int = 32 * MIB  # of one JSON body
    max_file_bytes: int = 256 * MIB  # of one uploaded file
    max_documents_bytes: int = 256 * MIB  # of all files of one run
    max_files: int = 1_000  # that a tenant keeps
    max_kept_runs: int = 10_000  # of a tenant, those that have ended included
    head_s: float = 30.0  # for the head of a request, from the beginning of its connection or the end of keep_alive_s
    keep_alive_s: float = 75.0  # from an answer to the next request
    body_piece_s: float = 30.0  # until the next piece of a body
    stalled_s: float = 60.0  # a reader that leaves its answer lying for so long is cut
    drain_s: float = 30.0  # that work under way is given to finish when the server stops

    def __post_init__(self) -> None:
        least = {"max_runs": 1, "max_direct": 1, "max_queue": 0, "max_body_bytes": 1024, "max_file_bytes": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be at least {low}")
        for name in ("head_s", "keep_alive_s", "body_piece_s", "stalled_s", "drain_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be above 0 and finite")
