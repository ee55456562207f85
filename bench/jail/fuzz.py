"""`python -m bench fuzz-channel`: a hostile worker's frames against the host's own reader and session."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.jail.frames import Generator
from bench.jail.puppet import puppets
from rlm_local.documents import join
from rlm_local.jail import JailSession, wire
from rlm_local.limits import Limits
from rlm_local.types import CallForm, CellResult, CellStatus, Document, SubCall, Usage

LIMITS = Limits(max_subcalls=64, cell_output_bytes=4096)
_DOCUMENTS = (Document("a", "x" * 1_000), Document("b", "y" * 77))
_SCRIPTS_PER_SESSION = 10  # a session runs its earlier cells again when its jail breaks
_PROMPTS_PER_CELL = 1_000  # what the host allows, as in rlm_local/jail/cell.py; our own tests hold it to that
_QUERIES_AT_ONCE = 16
_TICK_S, _HANG_TICKS = 0.05, 1_200  # a minute of our own running: who is stopped from outside does not hang
_HANG_S = _TICK_S * _HANG_TICKS  # a cell's own time is far below
_WALL_S = 0.05
_HANGING_SHARE = 0.0005  # of scripts that say nothing more and do not hang up: they cost the grace period
_MOST_GROWTH = 0.03
_MEMORY_EVERY = 1_000  # scripts


@dataclass(slots=True)
class FuzzResult:
    taken: Counter[str] = field(default_factory=Counter)  # frames by the host: read, or refused as no frame
    scripts: int = 0
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)  # cells by status
    faults: list[str] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)
    longest_hold_s: float = 0.0  # processor time of the loop between two looks at its clock

    @property
    def frames(self) -> int:
        return self.taken.total()

    @property
    def growth(self) -> float | None:
        """Return by how much the memory of the last quarter is above that of the second; None for a short run."""
        size = len(self.rss_bytes) // 4
        if size < 2:
            return None
        return median(self.rss_bytes[-size:]) / median(self.rss_bytes[size : 2 * size]) - 1

    def as_object(self) -> dict[str, Any]:
        """Return what is found as JSON takes it. dataclasses.asdict turns a Counter into one of its pairs."""
        counts = {"taken": dict(self.taken), "ended": dict(self.ended)}
        return {**asdict(self), **counts, "frames": self.frames, "growth": self.growth}

    def lines(self) -> list[str]:
        growth = "not measured in so short a run" if self.growth is None else f"{self.growth:+.2%}"
        told = [
            f"{self.frames:,} frames taken in, in {self.scripts:,} hostile cells and as many honest ones, "
            f"{self.seconds:.0f} s",
            f"no JSON of ours: {self.taken['refused']:,} of them",
            f"cells ended: {', '.join(f'{count:,} {status}' for status, count in self.ended.most_common())}",
            f"memory from the second quarter to the last: {growth}",
            f"longest hold of the host's loop: {self.longest_hold_s * 1e3:.0f} ms of processor time",
        ]
        return told + [f"FAULT: {fault}" for fault in self.faults[:20]]


class _Script:
    """What the puppet writes for the next cell, in which portions; nothing but an honest end once it is written."""

    def __init__(self, generator: Generator, dice: random.Random) -> None:
        self._generator = generator
        self._dice = dice
        self.is_next_hostile = False

    async def play(self, channel: socket.socket, cell_id: int) -> None:
        if not self.is_next_hostile:
            await asyncio.get_running_loop().sock_sendall(channel, honest_end(cell_id))
            return
        self.is_next_hostile = False
        pieces = self._generator.script(cell_id)
        in_bytes = self._dice.random() < 0.1 and sum(len(piece) for piece in pieces) < 4_000
        for piece in pieces:
            await self._write(channel, piece, in_bytes=in_bytes)
        if self._dice.random() >= _HANGING_SHARE:
            await asyncio.sleep(0)
            channel.shutdown(socket.SHUT_WR)

    async def _write(self, channel: socket.socket, piece: bytes, *, in_bytes: bool) -> None:
        loop = asyncio.get_running_loop()
        if in_bytes:
            for byte in piece:
                await loop.sock_sendall(channel, bytes([byte]))
                await asyncio.sleep(0)  # the host reads up to here
            return
        cut = self._dice.randrange(len(piece) + 1)
        await loop.sock_sendall(channel, piece[:cut])
        await asyncio.sleep(0)
        await loop.sock_sendall(channel, piece[cut:])


async def fuzz(
    frames: int, minutes: float, seed: int, seeds: Sequence[bytes], say: Callable[[str], None]
) -> FuzzResult:
    """Write frames to sessions until both are reached, and note all that is not as it must be."""
    result = FuzzResult()
    dice = random.Random(seed)
    script = _Script(Generator(seed, seeds, documents=[len(d.text) for d in _DOCUMENTS]), dice)
    ticker = asyncio.create_task(_watch_holds(result))
    began = time.monotonic()
    try:
        while result.frames < frames or time.monotonic() - began < 60 * minutes:
            async with await JailSession.start(
                join(_DOCUMENTS), LIMITS, jails=puppets(script.play, result.taken)
            ) as session:
                for _ in range(_SCRIPTS_PER_SESSION):
                    await _one(session, script, dice, result)
            if result.scripts % _MEMORY_EVERY == 0:
                result.rss_bytes.append(_rss_bytes())
                say(f"{result.frames:,} frames, {time.monotonic() - began:.0f} s, {len(result.faults)} faults")
    finally:
        ticker.cancel()
    result.seconds = time.monotonic() - began
    if result.growth is not None and result.growth > _MOST_GROWTH:
        result.faults.append(f"memory grew by {result.growth:.1%}")
    return result


async def _one(session: JailSession, script: _Script, dice: random.Random, result: FuzzResult) -> None:
    """Play one hostile cell and one honest one."""
    asking, prompts, worst = 0, 0, 0
    delay_s = dice.choice((0.0, 0.0, 0.001))

    async def query(asked: Sequence[str], form: CallForm) -> list[SubCall]:
        nonlocal asking, prompts, worst
        asking, prompts = asking + 1, prompts + len(asked)
        worst = max(worst, asking)
        try:
            await asyncio.sleep(delay_s)
        finally:
            asking -= 1
        return [SubCall(prompt, "reply", Usage()) for prompt in asked]

    result.scripts += 1
    script.is_next_hostile = True
    try:
        cell = await _in_time(session.execute("", wall_s=_WALL_S, query=query))
        honest = await _in_time(session.execute("", wall_s=_HANG_S, query=query))
        if honest.status is CellStatus.KILLED:  # by what the hostile one had written after its end
            honest = await _in_time(session.execute("", wall_s=_HANG_S, query=query))
    except Exception as error:  # the very thing that is sought
        result.faults.append(f"cell {result.scripts}: {type(error).__name__}: {error}")
        return
    result.ended[cell.status.value] += 1
    result.faults += [f"cell {result.scripts}: {fault}" for fault in _broken_bounds(cell, prompts, worst)]
    if honest.status is not CellStatus.OK:
        result.faults.append(f"cell {result.scripts}: the next one ended as {honest.status}: {honest.error}")


async def _in_time(cell: Coroutine[None, None, CellResult]) -> CellResult:
    """Return what the cell comes to. Raises TimeoutError when it hangs."""
    task = asyncio.ensure_future(cell)
    for _ in range(_HANG_TICKS):
        done, _ = await asyncio.wait({task}, timeout=_TICK_S)
        if done:
            return task.result()
    task.cancel()
    raise TimeoutError(f"no end after {_HANG_S:.0f} s")


def _broken_bounds(cell: CellResult, prompts: int, at_once: int) -> list[str]:
    faults = []
    if prompts > _PROMPTS_PER_CELL or at_once > _QUERIES_AT_ONCE:
        faults.append(f"{prompts} prompts, {at_once} queries at once")
    if (printed := len((cell.stdout + cell.stdout_tail).encode())) > LIMITS.cell_output_bytes:
        faults.append(f"{printed} bytes of stdout")
    chars = [len(document.text) for document in _DOCUMENTS]
    faults += [f"{s}" for s in cell.spans if not 0 <= s.start < s.end <= chars[s.document]]
    if cell.final is not None:
        json.dumps(cell.final.value, allow_nan=False).encode()
    return faults


def honest_end(cell_id: int) -> bytes:
    """Return the frame of a cell that printed nothing and ended well."""
    frame = {"op": "done", "cell_id": cell_id, "status": "ok", "error": "", "final": None}
    frame |= {"stdout": "", "stdout_tail": "", "stdout_bytes": 0}
    return wire.encode(frame, max_bytes=wire.FROM_JAIL_BYTES)


async def _watch_holds(result: FuzzResult) -> None:
    while True:
        before = time.thread_time()
        await asyncio.sleep(0)
        result.longest_hold_s = max(result.longest_hold_s, time.thread_time() - before)
        await asyncio.sleep(0.001)


def _rss_bytes() -> int:
    """Return what is resident, less what the allocator only keeps: that swings by a tenth from one look to the next."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def drawn_payloads(count: int, seed: int) -> list[bytes]:
    """Return payloads that hypothesis has drawn: any JSON at all, and frames of every operation with any fields."""
    import hypothesis
    from hypothesis import strategies as st

    texts = st.text(max_size=40)
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
    values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
    asked = ["id", "cell_id", "kind", "texts", "args", "behind", "ahead", "spans"]
    ended = ["status", "error", "stdout", "stdout_tail", "stdout_bytes", "final"]
    names = st.sampled_from(asked + ended)
    operations = st.sampled_from(["query", "spans", "done", "open", "exec", "ready", "waiting"])
    frames = st.builds(lambda op, rest: {"op": op, **rest}, operations, st.dictionaries(names | texts, values))
    payloads: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(frames | values)
    def draw(value: object) -> None:
        payloads.append(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))

    draw()
    return payloads
