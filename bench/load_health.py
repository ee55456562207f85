"""Asks a server's /health at fixed moments: python -m bench.load_health HOST PORT PERIOD_S

A process of its own, so that no other work of the measurement is counted. It writes one line for each moment: the
milliseconds from that moment to the answer, or what went wrong. A late answer also makes the next ones late, as it
would for somebody who asks then.
"""

from __future__ import annotations

import http.client
import sys
import time

_GIVEN_UP_S = 60.0


def main(host: str, port: int, period_s: float) -> None:
    at = time.monotonic()
    while True:
        time.sleep(max(0.0, at - time.monotonic()))
        told = _asked(host, port) or f"{(time.monotonic() - at) * 1e3:.2f}"
        print(told, flush=True)
        at += period_s


def _asked(host: str, port: int) -> str:
    """Return what is wrong with the answer, or nothing. Each time over a new connection, as a watchdog asks."""
    connection = http.client.HTTPConnection(host, port, timeout=_GIVEN_UP_S)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"failed: {type(error).__name__}"
    finally:
        connection.close()
    return "" if status == http.client.OK else f"failed: status {status}"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
