"""`python -m bench run`: one model, one arm, K tasks of one kind, one result."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.arms import BaseArm, RlmArm
from bench.haystack import read_speeches, read_words
from bench.memory import PeakMemory
from bench.niah import plan
from bench.provenance import provenance
from bench.report import PeakBytes, Result, row_line
from bench.rows import Arm, Row, run_tasks
from rlm_local.config import Home
from rlm_local.limits import Limits
from rlm_local.runtime import open_runtime
from rlm_local.types import GrammarMode


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user asks of one run."""

    task: str
    model: str
    arm: str
    tokens: int
    tasks: int
    seed: int
    data: Path
    out: Path | None
    window_tokens: int | None
    kv_tokens: int | None
    limits: Limits
    grammar: GrammarMode
    command: str


@dataclass(frozen=True, slots=True)
class Ended:
    result: Result
    interrupted: bool
    error: Exception | None = None  # what ended the run before its last task, to be raised once the result is told


def run(settings: Settings, home: Home, say: Callable[[str], None]) -> Ended:
    """Run the tasks and return the result; Ctrl-C, SIGTERM or an error ends it early with the tasks that were done.

    Raises ConfigError for settings or data that cannot be used, and what starting the engine raises. An
    interruption comes through only when no task had begun, and an error when none was done: then there is
    nothing to tell.
    """
    return run_to_end(Bench(settings, home, say))


def run_to_end(bench: Bench) -> Ended:
    """Run until the tasks are done or something ends them. See run."""
    failure: Exception | None = None
    with PeakMemory() as memory:
        interrupted = False
        try:
            asyncio.run(bench.go())
        except (KeyboardInterrupt, asyncio.CancelledError):
            if bench.result is None:
                raise KeyboardInterrupt from None
            interrupted = True
        except Exception as error:
            if not bench.rows:
                raise
            failure = error
    if bench.result is None:
        raise AssertionError("a run that ended without an error has a result")
    peak = PeakBytes(memory.sampled_bytes, memory.bound_bytes) if PeakMemory.can_measure() else None
    return Ended(replace(bench.result, rows=tuple(bench.rows), peak=peak), interrupted, failure)


def end_like_ctrl_c(signum: signal.Signals) -> None:
    """Make a signal cancel this task, so that `timeout` and `kill` leave the finished tasks to be told of."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signum, task.cancel)


class Bench:
    """Holds what is done so far, because Ctrl-C ends the coroutine before it can return anything."""

    def __init__(self, settings: Settings, home: Home, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._home = home
        self._say = say
        self.rows: list[Row] = []
        self.result: Result | None = None

    async def go(self) -> None:
        end_like_ctrl_c(signal.SIGTERM)
        settings = self._settings
        haystack, words = read_speeches(settings.data), read_words(settings.data)
        self._say(f"starting {settings.model}")
        async with open_runtime(
            settings.model, self._home, window_tokens=settings.window_tokens, kv_tokens=settings.kv_tokens
        ) as runtime:
            window = runtime.engine.info.window_tokens
            self._say(f"counting {settings.tokens} tokens of {haystack.name}")
            tasks = await plan(haystack, words, settings.tokens, settings.seed, runtime.engine.count_tokens)
            self.result = Result(
                task=settings.task,
                arm=settings.arm,
                grammar=settings.grammar if settings.arm == "rlm" else GrammarMode.OFF,
                model=runtime.card.name,
                tokens=settings.tokens,
                tasks=settings.tasks,
                seed=settings.seed,
                window_tokens=window,
                weights_sha256=runtime.weights_sha256,
                data_sha256={haystack.name: haystack.sha256, "ruler word lists": words.sha256},
                peak=None,
                rows=(),
                provenance=provenance(settings.command),
            )
            traces = settings.out / "traces" if settings.out else None
            arm: Arm = BaseArm(runtime.engine)
            if settings.arm == "rlm":
                arm = RlmArm(runtime, settings.limits, traces, grammar=settings.grammar)
            await run_tasks(tasks.tasks(settings.tasks), arm, self._keep)

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        self._say(row_line(row, self._settings.tasks))
