"""One JSON object a line on stderr, for who runs the server.

No text of a document, no prompt, no name of a file: what is logged are kinds, ids, counts and seconds.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime

from rlm_local.server.wire import encoded


def log(event: str, **fields: str | int | float | bool | None) -> None:
    """Write one line. A stderr that is full or gone ends nothing."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    with suppress(OSError, ValueError):
        sys.stderr.write(encoded(line).decode() + "\n")
        sys.stderr.flush()
