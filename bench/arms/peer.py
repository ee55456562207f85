"""Other systems as arms: as installed, in an environment and a process of their own, on the same engine."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from bench.arms.confined import SOCKET_FOLDER, PeerProcess
from bench.arms.gate import SUB_CALL, Gate
from bench.arms.spending import Spender, calls_path
from bench.provenance import ROOT
from bench.tasks.task import Task, joined
from rlm_local.errors import ConfigError, JailUnavailable
from rlm_local.limits import Limits
from rlm_local.ports import Engine
from rlm_local.types import Answer, JsonValue, Sampling, StopReason

START_S = 300.0  # imports take seconds, and minutes where everybody else is served first
_SOCKET = "engine.sock"


@dataclass(frozen=True, slots=True)
class Peer:
    """A system that can be an arm."""

    name: str
    package: str
    side: Path  # its program of the bench, run by the Python of its environment
    settings: str  # what the report says of how it was run
    environment: Path  # a virtual one
    target: str  # of the Makefile, which makes the environment

    @property
    def python(self) -> Path:
        return self.environment / "bin/python"

    @property
    def version(self) -> str:
        """The version that is installed. Raises ConfigError where none is."""
        found = Distribution.discover(name=self.package, path=[str(one) for one in self._folders()])
        for distribution in found:
            return distribution.version
        raise ConfigError(f"{self.environment} does not hold {self.package}", hint=f"make it: `make {self.target}`")

    @property
    def side_sha256(self) -> str:
        return hashlib.sha256(self.side.read_bytes()).hexdigest()

    def _folders(self) -> list[Path]:
        return sorted(self.environment.glob("lib/python3*/site-packages"))


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "rlms",
            "rlms",
            ROOT / "bench/peers/rlms_side.py",
            "its own prompt with the orchestrator's addendum; REPL `local`, sub-calls on, max_depth 1; turns, seconds "
            "and tokens of run, turn and sub-call as every arm has them; compaction at a third of the window; told how "
            "much its windows hold",
            ROOT / ".venv-rlms",
            "bench-rlms",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class _Ending:
    value: JsonValue
    stop: StopReason
    reason: str


class PeerArm:
    """Starts the peer anew for each task, so that nothing of one is left in the next.

    Its time limit begins when it says that it is ready; how long that took is part of the task's seconds, and told.
    """

    def __init__(
        self, peer: Peer, engine: Engine, limits: Limits, sampling: Sampling, traces: Path | None = None
    ) -> None:
        """Raises ConfigError where the peer is not installed."""
        self._peer = peer
        self._engine = engine
        self._limits = limits
        self._sampling = sampling
        self._traces = traces
        self._version = peer.version

    async def answer(self, task: Task) -> Answer:
        """See bench.rows.Arm. Raises JailUnavailable when the peer cannot be started."""
        with tempfile.TemporaryDirectory(prefix="rlm-peer-") as folder:
            began = time.monotonic()
            process = await PeerProcess.start(
                self._peer.python, self._peer.side, Path(folder), cpu_s=self._limits.wall_s
            )
            try:
                await self._wait_until_ready(process)
                started_s = time.monotonic() - began
                spender = Spender(self._engine, self._limits, self._sampling, calls_path(self._traces, task))
                gate = Gate(spender, self._limits)
                async with gate.listening(Path(folder) / _SOCKET):
                    ending = await self._ending(process, gate, task)
                    wall_s = spender.elapsed_s
                    await process.end()
            finally:
                await process.end()
        if gate.failure is not None:
            raise gate.failure
        note = f"{ending.reason}; ready after {started_s:.1f} s"
        answer = replace(spender.answer(ending.value, note, ending.stop), wall_s=wall_s)
        return replace(answer, turns=gate.turns, subcalls=gate.subcalls)

    async def _wait_until_ready(self, process: PeerProcess) -> None:
        try:
            async with asyncio.timeout(START_S):
                said = await process.heard()
        except TimeoutError:
            said = None
        if not said or "ready" not in said:
            raise JailUnavailable(
                f"{self._peer.name} did not start: {await process.last_words()}",
                hint=f"make its environment again: `make {self._peer.target}`",
            )

    async def _ending(self, process: PeerProcess, gate: Gate, task: Task) -> _Ending:
        """Return how the peer's run ended: by its answer, at a limit, or without either."""
        speaking = asyncio.create_task(self._asked(process, task))
        over = asyncio.create_task(gate.over.wait())
        try:
            await asyncio.wait({speaking, over}, timeout=self._limits.wall_s, return_when=asyncio.FIRST_COMPLETED)
            if speaking.done():
                return await self._told(process, gate, speaking.result())
            stop = gate.stop or StopReason.TIME_LIMIT
            return _Ending(None, stop, f"ended from outside at the {stop.replace('_', ' ')}")
        finally:
            for waiting in (speaking, over):
                waiting.cancel()
            await asyncio.gather(speaking, over, return_exceptions=True)

    async def _asked(self, process: PeerProcess, task: Task) -> dict[str, Any] | None:
        limits = self._limits
        model = self._engine.info.model
        await process.tell(
            {
                "question": task.question,
                "context": joined(task),
                "socket": str(SOCKET_FOLDER / _SOCKET),
                "model": model,
                "sub_model": f"{model}{SUB_CALL}",
                "window_tokens": self._engine.info.window_tokens,
                "max_turns": limits.max_turns,
                "max_tokens": limits.max_tokens,
                "wall_s": limits.wall_s,
                "turn_tokens": limits.turn_tokens,
                "subcall_tokens": limits.subcall_tokens,
            }
        )
        return await process.heard()

    async def _told(self, process: PeerProcess, gate: Gate, said: dict[str, Any] | None) -> _Ending:
        version = f"{self._peer.name} {self._version}"
        if said is None:
            if gate.window_refusal:
                return _Ending(None, StopReason.WINDOW_LIMIT, f"{version} crashed: {gate.window_refusal}")
            return _Ending(None, StopReason.CANCELLED, f"{version} crashed, {await process.last_words()}")
        try:
            stop = StopReason(said["stop"])
            value = said["answer"]
            turns = int(said["turns"])
        except (KeyError, ValueError, TypeError) as error:
            return _Ending(None, StopReason.CANCELLED, f"{version} said what is no answer: {error!r}")
        why = {
            StopReason.FINAL: "its own answer",
            StopReason.TURN_LIMIT: "out of turns, so it was asked once more without code",
        }.get(stop, f"what it had at the {stop.replace('_', ' ')}")
        return _Ending(value if isinstance(value, str) else None, stop, f"{version}: {why}, after {turns} turns")
