"""A trace file read on as it grows: how a run that others work on is followed."""

from __future__ import annotations

import json
from pathlib import Path

PIECE_BYTES = 262_144  # that a reader of a trace holds in memory; of a longer line, the line


class TraceReader:
    """Reads a trace file on, line by line, as it grows; it need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._number = 0

    def lines(self) -> list[tuple[int, bytes]]:
        """Return whole lines that have come behind those of the last call, each with its number; none: no more yet.

        They are PIECE_BYTES at most, or one line that is longer: a reader may be slow, and there may be many of them.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                piece = file.read(PIECE_BYTES)
                if b"\n" not in piece:
                    piece += file.readline()
        except FileNotFoundError:
            return []
        *whole, _ = piece.split(b"\n")
        first = self._number
        self._number += len(whole)
        self._offset += sum(len(line) + 1 for line in whole)
        return list(enumerate(whole, start=first))


def event_name(line: bytes) -> bytes:
    """Return which event a line of a trace tells of."""
    name: str = json.loads(line).get("event", "event")
    return name.encode()
