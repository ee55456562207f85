"""`python -m bench hidden`: does a server tell by its answer, or its time, that something is there which is another's?

Requests whose answers must not differ: with a key that was revoked and one that never was; for a file or a run of
another tenant and one that never was. They are sent in rounds: in each some of every kind, over one connection and in
an order that the dice name, so that whatever the machine does meanwhile falls on all of them. A round gives one
difference, between the medians of its kinds; what is told is the median of these differences with an interval that
assumes nothing of how times are distributed. Two things that never were are compared in the same rounds: what the
method sees where there is nothing to be seen. And a server with a planted leak is measured too, which must show.
"""

from __future__ import annotations

import http.client
import json
import math
import random
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from bench.kills import UnixConnection
from bench.processes import die_with_parent
from bench.provenance import ROOT
from rlm_local.server.database import Database
from rlm_local.server.keys import Keys

BOUND_US = 15.0  # a file that is opened, read and closed takes longer, with nothing done to what was read
CERTAINTY = 0.999  # of an interval
EACH = 10  # requests of a kind in a round
START_S = 1_800.0
_WARM_UP = 5  # rounds that are not counted
_Z = statistics.NormalDist().inv_cdf(0.5 + CERTAINTY / 2)
_DROPPED_HEADERS = ("date",)
_SERVER = ("bench.kills_server",)
LEAKY = ("bench.hidden_leak", "1")  # a module and its words; the folder comes between them


class Verdict(StrEnum):
    SAME = "same"  # the whole interval lies within the bound
    APART = "apart"  # it does not, and zero is not in it
    UNDECIDED = "undecided"  # too few rounds for the noise of this machine


@dataclass(frozen=True, slots=True)
class Difference:
    """How much longer one kind takes than the other, in microseconds."""

    median_us: float
    low_us: float  # the interval's ends
    high_us: float

    @property
    def verdict(self) -> Verdict:
        if max(-self.low_us, self.high_us) <= BOUND_US:
            return Verdict.SAME
        return Verdict.UNDECIDED if self.low_us <= 0 <= self.high_us else Verdict.APART


@dataclass(frozen=True, slots=True)
class Pair:
    """Two kinds of request that nobody may tell apart."""

    name: str
    status: int
    same_answer: bool  # status, headers and body, of all of them
    typical_us: float  # of a request for what never was
    there: Difference  # what is another's, against what never was
    control: Difference  # what never was, against something else that never was
    verdict: Verdict


@dataclass
class HiddenResult:
    rounds: int
    each: int = EACH
    bound_us: float = BOUND_US
    certainty: float = CERTAINTY
    pairs: list[Pair] = field(default_factory=list)
    planted: Pair | None = None  # of a server that reads a file where the id exists, and only then

    def faults(self) -> list[str]:
        """Return what is given away, and what could not be told."""
        faults = [f"{pair.name}: the answers differ" for pair in self.pairs if not pair.same_answer]
        for pair in self.pairs:
            if pair.verdict is not Verdict.SAME:
                told = f"{pair.there.low_us} to {pair.there.high_us} µs"
                faults.append(f"{pair.name}: {pair.verdict}, {told}, but ±{self.bound_us:g} is the bound")
        if self.planted is not None and self.planted.verdict is not Verdict.APART:
            faults.append(f"a planted leak was not found: {self.planted.verdict}")
        return faults

    def as_object(self) -> dict[str, object]:
        return {**asdict(self), "faults": self.faults()}


@dataclass(frozen=True, slots=True)
class _Ask:
    method: str
    path: str
    key: str


def measure(folder: Path, rounds: int, seed: int, say: Callable[[str], None]) -> HiddenResult:
    """Return what a server on this machine gives away, and whether this would show."""
    result = HiddenResult(rounds)
    result.pairs = pairs(folder / "server", _SERVER, rounds, seed, say)
    (result.planted,) = pairs(folder / "leaky", LEAKY, rounds, seed, say, only="file, GET")
    return result


def pairs(
    folder: Path, server: Sequence[str], rounds: int, seed: int, say: Callable[[str], None], *, only: str = ""
) -> list[Pair]:
    """Measure one server: all pairs, or the one with a name. server: the module that runs it, and words for it."""
    folder.mkdir()
    with _running(folder, server):
        with closing(Database(folder / "state")) as database:
            keys = Keys(database)
            ada, bob, gone = [keys.add(name, None) for name in ("ada", "bob", "gone")]
            keys.revoke(gone[0].id)
        with closing(UnixConnection(folder / "s")) as connection:
            file, run = _brought(connection, ada[1])
            dice, found = random.Random(seed), []
            for name, asks in _asks(file, run, gone[1], bob[1]):
                if only in ("", name):
                    found.append(_compared(connection, name, asks, rounds, dice))
                    there = found[-1].there
                    say(f"{name}: {found[-1].verdict}, {there.median_us} µs ({there.low_us} to {there.high_us})")
            return found


def _asks(file: str, run: str, revoked: str, key: str) -> Iterator[tuple[str, dict[str, _Ask]]]:
    """Yield what is compared: by its name one request for what is there, and two for what never was."""
    never = [f"rlm-{secrets.token_urlsafe(32)}" for _ in range(2)]
    kinds = ("there", "absent", "control")
    yield "key", {kind: _Ask("GET", "/v1/models", one) for kind, one in zip(kinds, (revoked, *never), strict=True)}
    for what, path, own, calls in (
        ("file", "/v1/files", file, (("GET", ""), ("GET", "/content"), ("DELETE", ""))),
        ("run", "/v1/rlm/runs", run, (("GET", ""), ("GET", "/events"), ("POST", "/cancel"))),
    ):
        ids = (own, *(f"{what}-{secrets.token_hex(12)}" for _ in range(2)))
        for method, rest in calls:
            asks = {kind: _Ask(method, f"{path}/{each}{rest}", key) for kind, each in zip(kinds, ids, strict=True)}
            yield f"{what}, {method}{rest}", asks


def _compared(
    connection: http.client.HTTPConnection, name: str, asks: dict[str, _Ask], rounds: int, dice: random.Random
) -> Pair:
    answers: set[tuple[int, str, bytes]] = set()
    medians: dict[str, list[float]] = {kind: [] for kind in asks}
    for number in range(_WARM_UP + rounds):
        took: dict[str, list[float]] = {kind: [] for kind in asks}
        for kind in dice.sample(sorted(asks) * EACH, len(asks) * EACH):
            began = time.perf_counter()
            answers.add(_answer(connection, asks[kind]))
            took[kind].append((time.perf_counter() - began) * 1e6)
        if number >= _WARM_UP:
            for kind, times in took.items():
                medians[kind].append(statistics.median(times))
    there = difference(medians["there"], medians["absent"])
    return Pair(
        name,
        status=next(iter(answers))[0],
        same_answer=len(answers) == 1,
        typical_us=round(statistics.median(medians["absent"]), 1),
        there=there,
        control=difference(medians["absent"], medians["control"]),
        verdict=there.verdict,
    )


def difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Return how much more `one` is than `other`, round by round. Raises ValueError for too few rounds.

    The interval's ends are two of the differences: as many lie outside of them as the median of so many would leave
    there by chance (the sign test's interval, by the normal approximation of the binomial).
    """
    apart = sorted(first - second for first, second in zip(one, other, strict=True))
    outside = math.floor(len(apart) / 2 - _Z * math.sqrt(len(apart)) / 2)
    if outside < 1:
        raise ValueError(f"{len(apart)} rounds are too few for an interval of {CERTAINTY:.1%}; ask for 20 or more")
    ends = (statistics.median(apart), apart[outside - 1], apart[-outside])
    return Difference(*(round(each, 1) for each in ends))


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
    file = json.loads(connection.getresponse().read())["id"]
    # What is measured is a server at rest.
    while True:
        connection.request("GET", f"/v1/rlm/runs/{run}", headers=headers)
        if json.loads(connection.getresponse().read())["ended_at"] is not None:
            return file, run
        time.sleep(0.05)


@contextmanager
def _running(folder: Path, server: Sequence[str]) -> Iterator[None]:
    command = [sys.executable, "-m", server[0], str(folder), *server[1:]]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        _wait(process, folder / "s")
        yield
    finally:
        process.kill()
        process.wait()


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
