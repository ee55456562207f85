"""`python -m bench run`: one model, one arm, K tasks of one family, one result; what was cut off goes on."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.arms.build import RLM_ARMS, build_arm, profile_of
from bench.memory import PeakMemory
from bench.provenance import Provenance, provenance
from bench.report import PeakBytes, Result, row_line
from bench.rows import Row, read_row, row_object, run_tasks
from bench.tasks.families import FAMILIES
from bench.tasks.task import Sources
from rlm_local.config import Home
from rlm_local.errors import ConfigError
from rlm_local.grammar import TurnState, turn_grammar
from rlm_local.limits import Limits
from rlm_local.plan import profile_of as card_profile
from rlm_local.runtime import Runtime, open_runtime
from rlm_local.types import GrammarMode

SETTINGS = "settings.json"
ROWS = "rows"
MADE = "made.json"  # the provenance of every command that has added to the rows


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
    typed: bool = False  # answers are held to the task's schema
    profile: str | None = None  # in place of the one that the model's card names

    def kept(self) -> dict[str, object]:
        """Return what the rows of a folder have in common; more tasks may be asked for later."""
        asked = asdict(self)
        left_out = {"out", "data", "command", "tasks"} | ({"profile"} if self.profile is None else set())
        return {name: value for name, value in asked.items() if name not in left_out}


@dataclass(frozen=True, slots=True)
class Ended:
    result: Result
    interrupted: bool
    error: Exception | None = None  # what ended the run before its last task, to be raised once the result is told


class Kept:
    """The rows of a run in a folder, a file each, so that a run that was cut off goes on behind the last of them."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError when the folder holds a run of other settings, or what is no run."""
        self.rows: list[Row] = []
        self.made: list[dict[str, Any]] = []
        self._folder = settings.out
        if settings.out is None:
            return
        path, asked = settings.out / SETTINGS, json.dumps(settings.kept(), indent=1, sort_keys=True) + "\n"
        if path.exists():
            if path.read_text(encoding="utf-8") != asked:
                raise ConfigError(
                    f"{settings.out} holds a run with other settings; a result is never written over another",
                    hint=f"name a new folder, or ask for what {path} says",
                )
            found = sorted((settings.out / ROWS).glob("*.json"))
            self.rows = [row for file in found if (row := read_row(file.read_text("utf-8"))).number <= settings.tasks]
            self.made = json.loads((settings.out / MADE).read_text("utf-8")) if (settings.out / MADE).exists() else []
        elif settings.out.is_dir() and any(settings.out.iterdir()):
            raise ConfigError(
                f"{settings.out} is not empty; a result is never written over another", hint="name a new folder"
            )
        (settings.out / ROWS).mkdir(parents=True, exist_ok=True)
        _write_whole(path, asked)

    def go_on(self, made: Provenance) -> tuple[dict[str, Any], ...]:
        """Note the command that adds to the rows from now on, and return those before it that have added some."""
        earlier = tuple(self.made) if self.rows else ()
        self.made = [*earlier, asdict(made)]
        if self._folder is not None:
            _write_whole(self._folder / MADE, json.dumps(self.made, indent=1) + "\n")
        return earlier

    def keep(self, row: Row) -> None:
        self.rows.append(row)
        if self._folder is not None:
            text = json.dumps(row_object(row), indent=1, ensure_ascii=False) + "\n"
            _write_whole(self._folder / ROWS / f"{row.number:05}.json", text)


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, also after kill -9."""
    beside = path.with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def run(settings: Settings, home: Home, say: Callable[[str], None]) -> Ended:
    """Run the tasks and return the result; Ctrl-C, SIGTERM or an error ends it early with the tasks that were done.

    Raises ConfigError for settings or data that cannot be used, and what starting the engine raises. An
    interruption comes through only when no task had begun, and an error when none was done: then there is
    nothing to tell.
    """
    FAMILIES[settings.task].check_data(settings.data)
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
    rows = tuple(sorted(bench.rows, key=lambda row: row.number))
    return Ended(replace(bench.result, rows=rows, peak=peak), interrupted, failure)


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
        self._kept = Kept(settings)
        self._done_here = 0
        self._began = time.monotonic()
        self.result: Result | None = None

    @property
    def rows(self) -> list[Row]:
        return self._kept.rows

    async def go(self) -> None:
        end_like_ctrl_c(signal.SIGTERM)
        settings = self._settings
        self._say(f"starting {settings.model}")
        async with open_runtime(
            settings.model, self._home, window_tokens=settings.window_tokens, kv_tokens=settings.kv_tokens
        ) as loaded:
            runtime = loaded if settings.profile is None else under(settings.profile, loaded)
            self._say(f"preparing {settings.task} at {settings.tokens} tokens")
            sources = Sources(settings.data)
            family = FAMILIES[settings.task]
            make = await family.plan(sources, settings.tokens, settings.seed, runtime.engine.count_tokens)
            blank = blank_result(settings, runtime, sources)
            self.result = replace(blank, earlier=self._kept.go_on(blank.provenance))
            traces = settings.out / "traces" if settings.out else None
            arm = build_arm(
                settings.arm, runtime, settings.limits, traces, grammar=settings.grammar, typed=settings.typed
            )
            done = {row.number for row in self.rows}
            if done:
                self._say(f"{len(done)} of {settings.tasks} tasks are done already")
            self._began = time.monotonic()
            await run_tasks((make(at) for at in range(settings.tasks) if at + 1 not in done), arm, self._keep)

    def _keep(self, row: Row) -> None:
        self._kept.keep(row)
        self._done_here += 1
        left = self._settings.tasks - len(self.rows)
        left_s = left * (time.monotonic() - self._began) / self._done_here
        told = f"  about {duration(left_s)} left" if left else ""
        self._say(row_line(row, self._settings.tasks) + told)


def under(profile: str, runtime: Runtime) -> Runtime:
    """Return a runtime whose runs are told this prompt profile."""
    return replace(runtime, profile=card_profile(replace(runtime.card, profile=profile), runtime.packages))


def blank_result(settings: Settings, runtime: Runtime, sources: Sources) -> Result:
    """Return the result of a run before its first task."""
    is_rlm = settings.arm in RLM_ARMS
    grammar = settings.grammar if is_rlm else GrammarMode.OFF
    info = runtime.engine.info
    profile, profile_sha256 = profile_of(settings.arm, runtime)
    language = turn_grammar(TurnState.OPEN, info.grammar_dialect, grammar) or ""
    return Result(
        task=settings.task,
        arm=settings.arm,
        grammar=grammar,
        model=runtime.card.name,
        tokens=settings.tokens,
        tasks=settings.tasks,
        seed=settings.seed,
        window_tokens=info.window_tokens,
        weights_sha256=runtime.weights_sha256,
        data_sha256=dict(sources.sha256),
        peak=None,
        rows=(),
        provenance=provenance(settings.command),
        limits=settings.limits,
        typed=settings.typed,
        profile=profile,
        profile_sha256=profile_sha256,
        grammar_sha256=hashlib.sha256(language.encode()).hexdigest() if language else "",
    )


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
