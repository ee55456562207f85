"""`python -m bench kills`: a server killed by kill -9 at random moments, and what became of its accepted runs."""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.kills_server import LOTS, expected
from bench.provenance import ROOT
from rlm_local.events import Replied, RunEnded, RunResumed, RunStarted, SubCallDone
from rlm_local.trace import Trace, read_trace

RUNS = "/v1/rlm/runs"
START_S = 1_800.0  # for a server to answer, on a machine that is busy with other things
END_S = 3_600.0  # for all runs to end, once nobody kills any more
UNDER_WAY = 4  # runs that are kept going: as many as the server works on at once


@dataclass
class KillsResult:
    """What was accepted, and what has become of it."""

    kills: int  # every other one within the time that a server takes to start, the others while it works
    accepted: int = 0
    asked_twice: int = 0  # requests to start a run that were repeated because the answer did not come
    lost: list[str] = field(default_factory=list)  # ids of accepted runs that are gone, or did not end in an answer
    doubled: list[str] = field(default_factory=list)  # questions with two runs, runs with two beginnings or two ends
    wrong: list[str] = field(default_factory=list)  # ids of runs whose answer is not the sum
    resumed: int = 0  # times that a run went on from its trace
    replies: int = 0  # that the traces hold
    requests: int = 0  # that the engine was asked
    under_way: int = 0  # of these: asked again, because the server died before the reply had come
    paid_twice: list[str] = field(default_factory=list)  # digests that were asked again after their reply was kept
    wall_s: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.paid_twice)

    def as_object(self) -> dict[str, object]:
        return asdict(self)


class Kills:
    """One measurement in a folder of its own. Not for use twice."""

    def __init__(self, folder: Path, kills: int, seed: int, say: Callable[[str], None]) -> None:
        self.result = KillsResult(kills)
        self._folder = folder
        self._dice = random.Random(seed)
        self._say = say
        self._accepted: dict[str, int] = {}  # auction by run
        self._ready_s = 1.0  # that the last server took to answer
        self._paid: set[str] = set()  # requests whose replies a trace held when a server died
        self._whole: set[str] = set()  # runs whose traces have come to their end
        self._read_bytes = 0  # of the ledger
        self._asked: Counter[str] = Counter()

    def go(self) -> KillsResult:
        began = time.monotonic()
        for number in range(1, self.result.kills + 1):
            with self._server() as server:
                self._work_until_killed(server, while_starting=number % 2 == 0)
            self._look_at_the_dead()
            self._say(f"kill {number} of {self.result.kills}, {len(self._accepted)} runs accepted")
        with self._server() as server:
            self._wait_ready(server)
            self._check(self._ended())
        self._read_ledger()
        found = self.result
        found.accepted, found.requests = len(self._accepted), self._asked.total()
        found.under_way = self._asked.total() - len(self._asked)
        found.wall_s = round(time.monotonic() - began, 1)
        return found

    # --- while it lives ----------------------------------------------------------------------------------

    @contextmanager
    def _server(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "bench.kills_server", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield server
        finally:
            server.kill()
            server.wait()

    def _call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Return what the server answers. Raises OSError or HTTPException where it is not there, or dies meanwhile."""
        connection = UnixConnection(self._folder / "s")
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            told = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status >= 400:
            raise _Refused(f"{method} {path}: {answer.status} {told}")
        return told

    def _work_until_killed(self, server: subprocess.Popen[bytes], *, while_starting: bool) -> None:
        """Keep runs going until the moment that the dice name, in which the server dies whatever it is at."""
        began = time.monotonic()
        killer = threading.Timer(self._dice.uniform(0.0, self._ready_s), server.kill)
        if while_starting:
            killer.start()
        try:
            self._wait_ready(server)
            if not while_starting:
                self._ready_s = time.monotonic() - began
                self._check_kept()
                self._fill()
                killer.start()
            while True:
                self._fill()
                time.sleep(0.005)
        except (OSError, http.client.HTTPException, _Ended):  # it is dead, or about to be
            killer.join()
            server.wait()

    def _fill(self) -> None:
        ready = self._call("GET", "/ready")
        for _ in range(ready["runs"]["running"] + ready["runs"]["waiting"], UNDER_WAY):
            self._start()

    def _wait_ready(self, server: subprocess.Popen[bytes]) -> None:
        """Return when the server answers. Raises _Ended when it is killed before."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if (code := server.poll()) is not None:
                if code != -signal.SIGKILL:
                    raise RuntimeError(f"the server ended with {code}; see {self._folder / 'log'}")
                raise _Ended
            with suppress(OSError, http.client.HTTPException, _Refused):
                self._call("GET", "/ready")
                return
            time.sleep(0.01)
        raise RuntimeError(f"the server did not answer within {START_S} s; see {self._folder / 'log'}")

    def _start(self) -> None:
        """Ask for one more run, under a name: whoever gets no answer asks again."""
        auction = len(self._accepted) + 1
        body = {
            "question": f"What did all lots cost at {auction}",
            "documents": [{"text": f"{LOTS} lots were sold.\n"}],
        }
        try:
            run = self._call("POST", RUNS, body, **{"Idempotency-Key": f"auction-{auction}"})
        except (OSError, http.client.HTTPException):
            self.result.asked_twice += 1
            raise
        self._accepted[run["id"]] = auction

    # --- what became of it -------------------------------------------------------------------------------

    def _runs(self) -> dict[str, dict[str, Any]]:
        """Return all runs that the server knows, by id."""
        found: dict[str, dict[str, Any]] = {}
        after = ""
        while True:
            page = self._call("GET", f"{RUNS}?limit=1000{after}")
            found |= {run["id"]: run for run in page["data"]}
            if not page["has_more"]:
                return found
            after = f"&after={page['data'][-1]['id']}"

    def _check_kept(self) -> None:
        """Note accepted runs that a server that was started again does not know, or has given up."""
        known = self._runs()
        for run in self._accepted:
            if run not in known or known[run]["status"] in ("failed", "cancelled"):
                self._note(self.result.lost, run)

    def _ended(self) -> dict[str, dict[str, Any]]:
        """Return all runs when none is under way any more."""
        deadline = time.monotonic() + END_S
        while True:
            runs = self._runs()
            if time.monotonic() > deadline or all(run["ended_at"] is not None for run in runs.values()):
                return runs
            time.sleep(0.05)

    def _check(self, runs: dict[str, dict[str, Any]]) -> None:
        found = self.result
        for run, auction in self._accepted.items():
            if run not in runs or runs[run]["status"] != "done":
                self._note(found.lost, run)
            elif runs[run]["answer"]["value"] != expected(auction):
                self._note(found.wrong, run)
        asked = Counter(run["question"] for run in runs.values())
        found.doubled += [question for question, times in asked.items() if times > 1]
        for run in runs:
            self._check_trace(run, read_trace(self._trace(run)))

    def _check_trace(self, run: str, trace: Trace) -> None:
        told = Counter(type(event) for event in trace.events)
        ends = [event for event in trace.events if isinstance(event, RunEnded)]
        if told[RunStarted] != 1 or len(ends) != 1 or told[SubCallDone] != LOTS:
            self._note(self.result.doubled, run)
        replied = Counter(event.request for event in trace.events if isinstance(event, Replied))
        self.result.paid_twice += [request for request, times in replied.items() if times > 1]
        self.result.resumed += told[RunResumed]
        self.result.replies += replied.total()

    def _look_at_the_dead(self) -> None:
        """Note what the engine was asked until now, and then for which of it the traces hold a reply."""
        self._read_ledger()
        for run in self._accepted.keys() - self._whole:
            path = self._trace(run)
            if not path.exists() or b"\n" not in path.read_bytes():
                continue
            trace = read_trace(path)
            self._paid |= {event.request for event in trace.events if isinstance(event, Replied)}
            if trace.answer is not None:
                self._whole.add(run)

    def _read_ledger(self) -> None:
        path = self._folder / "asked"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        self._read_bytes += len(data)
        for request in data.decode().split():
            self._asked[request] += 1
            if request in self._paid:
                self._note(self.result.paid_twice, request)

    def _trace(self, run: str) -> Path:
        return self._folder / "state" / "runs" / f"{run}.jsonl"

    @staticmethod
    def _note(found: list[str], name: str) -> None:
        if name not in found:
            found.append(name)


class _Ended(Exception):
    """The server was killed."""


class _Refused(RuntimeError):
    """The server answered with an error."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    # httpx leaves a socket open that it could not connect, and here that is thousands of them.
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))
