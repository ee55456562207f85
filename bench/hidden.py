"""`python -m bench hidden`: does a server tell by its answer, or its time, that something is there which is another's?

Groups of requests whose answers must not differ: with a key that never was and one that was revoked; for a file or a
run that never was and one of another tenant. They are sent in turn, in an order that the dice name, over one
connection, so that whatever the machine does meanwhile falls on all of them.
"""

from __future__ import annotations

import http.client
import json
import random
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.kills import UnixConnection
from bench.provenance import ROOT
from rlm_local.server.database import Database
from rlm_local.server.keys import Keys

START_S = 1_800.0
_DROPPED_HEADERS = ("date",)


@dataclass
class Pair:
    """Two kinds of request that nobody may tell apart."""

    name: str
    status: int
    same_answer: bool  # status, headers and body, of all of them
    median_us: dict[str, float]
    apart_us: float  # between the two medians
    noise_us: float  # between the medians of two halves of one kind, the larger of both kinds


@dataclass
class HiddenResult:
    requests: int
    pairs: list[Pair] = field(default_factory=list)

    def as_object(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Ask:
    method: str
    path: str
    key: str


def measure(folder: Path, requests: int, seed: int, say: Callable[[str], None]) -> HiddenResult:
    """Return what a server on this machine gives away. requests: of each kind."""
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.kills_server", str(folder)], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        _wait(server, folder / "s")
        with closing(Database(folder / "state")) as database:
            keys = Keys(database)
            ada, bob, gone = [keys.add(name, None) for name in ("ada", "bob", "gone")]
            keys.revoke(gone[0].id)
        with closing(UnixConnection(folder / "s")) as connection:
            file, run = _brought(connection, ada[1])
            nobody = f"rlm-{secrets.token_urlsafe(32)}"
            dice, result = random.Random(seed), HiddenResult(requests)
            for name, there, absent in (
                ("key", _Ask("GET", "/v1/models", gone[1]), _Ask("GET", "/v1/models", nobody)),
                *(
                    (
                        f"{kind}, {method}{rest}",
                        _Ask(method, f"{path}/{own}{rest}", bob[1]),
                        _Ask(method, f"{path}/{kind}-{secrets.token_hex(12)}{rest}", bob[1]),
                    )
                    for kind, path, own, calls in (
                        ("file", "/v1/files", file, (("GET", ""), ("GET", "/content"), ("DELETE", ""))),
                        ("run", "/v1/rlm/runs", run, (("GET", ""), ("GET", "/events"), ("POST", "/cancel"))),
                    )
                    for method, rest in calls
                ),
            ):
                result.pairs.append(_compared(connection, name, {"there": there, "absent": absent}, requests, dice))
                say(f"{name}: {result.pairs[-1].apart_us} µs apart, noise {result.pairs[-1].noise_us} µs")
            return result
    finally:
        server.kill()
        server.wait()


def _compared(
    connection: http.client.HTTPConnection, name: str, asks: dict[str, _Ask], requests: int, dice: random.Random
) -> Pair:
    answers: set[tuple[int, str, bytes]] = set()
    took: dict[str, list[float]] = {kind: [] for kind in asks}
    for _ in range(requests):
        for kind in dice.sample(sorted(asks), len(asks)):
            began = time.perf_counter()
            answers.add(_answer(connection, asks[kind]))
            took[kind].append((time.perf_counter() - began) * 1e6)
    median = {kind: round(statistics.median(times), 1) for kind, times in took.items()}
    halves = [(statistics.median(times[::2]), statistics.median(times[1::2])) for times in took.values()]
    return Pair(
        name,
        status=next(iter(answers))[0],
        same_answer=len(answers) == 1,
        median_us=median,
        apart_us=round(abs(median["there"] - median["absent"]), 1),
        noise_us=round(max(abs(one - other) for one, other in halves), 1),
    )


def _answer(connection: http.client.HTTPConnection, ask: _Ask) -> tuple[int, str, bytes]:
    connection.request(ask.method, ask.path, headers={"Authorization": f"Bearer {ask.key}"})
    response = connection.getresponse()
    headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _DROPPED_HEADERS]
    return response.status, str(sorted(headers)), response.read()


def _brought(connection: http.client.HTTPConnection, key: str) -> tuple[str, str]:
    """Have a tenant bring a file and start a run; return their ids."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = json.dumps({"question": "What did all lots cost at 1", "documents": [{"text": "24 lots were sold.\n"}]})
    connection.request("POST", "/v1/rlm/runs", body, headers)
    run = json.loads(connection.getresponse().read())["id"]
    form = (
        '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        '--x\r\nContent-Disposition: form-data; name="file"; filename="lots.txt"\r\n\r\n24 lots.\r\n--x--\r\n'
    )
    connection.request("POST", "/v1/files", form, headers | {"Content-Type": "multipart/form-data; boundary=x"})
    return json.loads(connection.getresponse().read())["id"], run


def _wait(server: subprocess.Popen[bytes], socket: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        with closing(UnixConnection(socket)) as connection:
            try:
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
        time.sleep(0.05)
    raise RuntimeError(f"the server did not answer within {START_S} s, or ended")
