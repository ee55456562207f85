"""The CPU engine: how it is started on this machine, and for how long it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rlm_local.engine.client import HttpEngine
from rlm_local.engine.llama.gguf import model_shape
from rlm_local.engine.memory import available_bytes, cells_for, shelf_for
from rlm_local.engine.process import quiet_environment
from rlm_local.engine.supervised import Running, SupervisedEngine

# Threads that wait for each other at a barrier spin by default. Where anything else wants a core (a cell,
# another program), each of some hundred barriers a token then costs a time slice; where nothing does,
# sleeping at once costs a wake-up each time. So they spin for some microseconds and sleep then. Tokens/s of
# one reply on 2 cores: beside another program 0.9 by default, 20 so (0.5B); alone 10 asleep at once, 24 so (1.5B).
SPIN_BRIEFLY = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}  # the second is GNU's, and goes first there


@dataclass(frozen=True, slots=True)
class Launch:
    """How one engine process is started."""

    weights: Path
    model: str  # the name that requests use
    window_tokens: int  # prompt and reply of one request
    cells: int  # tokens that stay in memory, all prefixes together
    shelf: int  # tokens that are kept beside them, of prefixes that wait
    threads: int
    runtime_dir: Path  # the socket's private folder is made here
    log: Path | None  # the process's own words are appended to it

    def argv(self, socket: Path, lifeline_fd: int) -> list[str]:
        # -P: the current folder holds the user's documents, and must not lend us a numpy.py.
        command = [sys.executable, "-P", "-m", "rlm_local.engine.llama.service"]
        command += ["--weights", str(self.weights), "--model", self.model, "--socket", str(socket)]
        command += ["--ctx", str(self.window_tokens), "--cells", str(self.cells), "--threads", str(self.threads)]
        command += ["--shelf", str(self.shelf)]
        return [*command, "--lifeline-fd", str(lifeline_fd)]

    @property
    def stop_s(self) -> float:
        return 3.0

    @property
    def crash_seen_s(self) -> float:
        return 2.0

    def environment(self) -> Mapping[str, str]:
        # ggml starts gdb for a backtrace when it aborts, which takes seconds and buries the reason.
        return {**SPIN_BRIEFLY, **quiet_environment(), "GGML_NO_BACKTRACE": "1"}

    def cause(self, said: Sequence[str]) -> str:
        return said[-1] if said else ""

    async def connect(self, socket: Path) -> HttpEngine:
        return await HttpEngine.connect(self.model, socket=socket, ours=True)


class LlamaEngine(SupervisedEngine):
    """The CPU engine."""


@asynccontextmanager
async def launch_llama(
    weights: Path,
    model: str,
    *,
    window_tokens: int,
    runtime_dir: Path,
    kv_tokens: int | None = None,
    threads: int | None = None,
    log: Path | None = None,
) -> AsyncIterator[LlamaEngine]:
    """Run the CPU engine for the length of the block.

    window_tokens: most tokens of one request. kv_tokens: cells kept in memory; see memory.cells_for.
    threads: of one computation; by default every processor that this process may use.
    log: a file to which everything that the process says is appended.
    Raises ConfigError when the window is longer than the model's, or window or cells are larger than memory,
    EngineError when the file's header tells that it is no whole model, and EngineUnavailable when the process
    does not come up; the message ends with its last words.
    """
    launch = plan(
        weights,
        model,
        window_tokens=window_tokens,
        kv_tokens=kv_tokens,
        runtime_dir=runtime_dir,
        threads=threads,
        log=log,
    )
    engine = LlamaEngine(launch, await Running.start(launch))
    try:
        yield engine
    finally:
        await engine.close()


def plan(
    weights: Path,
    model: str,
    *,
    window_tokens: int,
    kv_tokens: int | None,
    runtime_dir: Path,
    threads: int | None,
    log: Path | None,
) -> Launch:
    """Return how to start the engine on this machine. Raises what launch_llama raises before it starts anything."""
    shape, room = model_shape(weights), available_bytes()
    cells = cells_for(shape, model, window_tokens=window_tokens, kv_tokens=kv_tokens, available_bytes=room)
    return Launch(
        weights=weights.resolve(),
        model=model,
        window_tokens=window_tokens,
        cells=cells,
        shelf=shelf_for(shape, cells, room),
        threads=threads or len(os.sched_getaffinity(0)),
        runtime_dir=runtime_dir,
        log=log,
    )
