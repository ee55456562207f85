"""`python -m bench grammar-effect`: the same tasks with the grammar off, lexical and whole, and what it changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.output import write_result
from bench.provenance import Provenance
from bench.rows import Row, run_task
from bench.tasks.families import FAMILIES
from bench.tasks.task import Sources, Task
from rlm_local.config import Home
from rlm_local.events import Event, TurnTaken
from rlm_local.limits import Limits
from rlm_local.ports import Recorder
from rlm_local.runtime import Runtime, open_runtime
from rlm_local.trace import TraceWriter
from rlm_local.types import Answer, Cell, Final, FinalVar, GrammarMode, Turn


@dataclass(frozen=True, slots=True)
class Arm:
    """What came of one model under one grammar."""

    model: str
    grammar: GrammarMode
    rows: tuple[Row, ...]
    code_turns: int  # turns that are no answers: cells, and what could not be read as a turn
    executable_turns: int  # of them, cells that compile
    answer_turns: int
    closed_turns: int  # that the engine ended because their tokens were spent
    complaints: tuple[str, ...]  # of the turns that could not be executed

    def summary(self) -> dict[str, Any]:
        done = max(1, len(self.rows))
        tokens = sum(row.usage.total_tokens for row in self.rows)
        return {
            "tasks": len(self.rows),
            "executable": f"{self.executable_turns} of {self.code_turns}",
            "executable_share": self.executable_turns / self.code_turns if self.code_turns else 1.0,
            "confirmed": sum(row.confirmed for row in self.rows),
            "score": sum(row.score for row in self.rows) / done,
            "tokens_per_run": round(tokens / done),
            "completion_tokens_per_run": round(sum(row.usage.completion_tokens for row in self.rows) / done),
            "turns_per_run": sum(row.turns for row in self.rows) / done,
            "closed_turns": self.closed_turns,
            "seconds_per_run": round(sum(row.wall_s for row in self.rows) / done, 1),
        }


@dataclass(frozen=True, slots=True)
class Effect:
    task: str  # family
    tokens: int
    seed: int
    limits: Limits
    arms: tuple[Arm, ...]
    provenance: Provenance

    def write(self, folder: Path) -> None:
        """Write result.json and result.md into the folder."""
        write_result(asdict(self) | {"arms": [asdict(arm) | {"summary": arm.summary()} for arm in self.arms]}, folder)
        facts = [f"| {name} | {value} |" for name, value in self.provenance.facts()]
        page = [
            f"# Effect of the grammar, {self.task} at {self.tokens:,} tokens, seed {self.seed}",
            "",
            *table(self.arms),
        ]
        page += ["", "| made with | |", "| --- | --- |", *facts, ""]
        (folder / "result.md").write_text("\n".join(page), encoding="utf-8")


def table(arms: Sequence[Arm]) -> list[str]:
    """Return the figures as Markdown, one line for each model and grammar."""
    heads = (
        "model",
        "grammar",
        "right",
        "confirmed",
        "executable turns",
        "turns a run",
        "tokens a run",
        "closed turns",
    )
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for arm in arms:
        total = arm.summary()
        share = f"{total['executable']} ({100 * total['executable_share']:.0f} %)"
        right = f"{sum(row.score for row in arm.rows):g} of {total['tasks']}"
        cells = (arm.model, arm.grammar, right, total["confirmed"], share, f"{total['turns_per_run']:.1f}")
        lines.append(f"| {' | '.join(map(str, (*cells, total['tokens_per_run'], total['closed_turns'])))} |")
    return lines


async def _run_arm(
    runtime: Runtime,
    mode: GrammarMode,
    tasks: Iterable[Task],
    limits: Limits,
    traces: Path | None,
    say: Callable[[str], None],
) -> Arm:
    asking = _Asking(runtime, mode, limits, traces)
    rows = []
    for task in tasks:
        row = await run_task(task, asking)
        rows.append(row)
        say(f"{runtime.card.name} {mode} task {row.number}: {row.outcome}, {row.turns} turns, {row.wall_s:.0f} s")
    turns = asking.turns
    answers = sum(isinstance(turn.action, Final | FinalVar) for turn in turns)
    complaints = [complaint(turn) for turn in turns if not isinstance(turn.action, Final | FinalVar)]
    return Arm(
        model=runtime.card.name,
        grammar=mode,
        rows=tuple(rows),
        code_turns=len(complaints),
        executable_turns=complaints.count(""),
        answer_turns=answers,
        closed_turns=sum(bool(turn.closed_text) for turn in turns),
        complaints=tuple(said for said in complaints if said),
    )


def complaint(turn: Turn) -> str:
    """Return why a turn cannot be executed; empty when it can be."""
    if not isinstance(turn.action, Cell):
        return getattr(turn.action, "reason", "no cell")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(turn.action.code, "<cell>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            return f"{type(error).__name__}: {error}"
    return ""


class _Asking:
    """An arm of rows.run_task that keeps the turns of its runs."""

    def __init__(self, runtime: Runtime, mode: GrammarMode, limits: Limits, traces: Path | None) -> None:
        self._runtime = runtime
        self._mode = mode
        self._limits = limits
        self._traces = traces
        self.turns: list[Turn] = []

    async def answer(self, task: Task) -> Answer:
        request = task.request(self._limits, self._mode, typed=False)
        if self._traces is None:
            return await self._runtime.ask(request, _Turns(self.turns, None))
        with TraceWriter(self._traces / f"task-{task.index + 1:03}.jsonl") as writer:
            return await self._runtime.ask(request, _Turns(self.turns, writer))


class _Turns(Recorder):
    """Keeps the turns, and hands every event on."""

    def __init__(self, turns: list[Turn], beyond: Recorder | None) -> None:
        self._turns = turns
        self._beyond = beyond

    def write(self, event: Event) -> None:
        if self._beyond is not None:
            self._beyond.write(event)
        if isinstance(event, TurnTaken):
            self._turns.append(event.turn)


async def run_effect(
    models: Sequence[str],
    modes: Sequence[GrammarMode],
    home: Home,
    made: Provenance,
    *,
    task: str,
    tokens: int,
    tasks: int,
    seed: int,
    limits: Limits,
    data: Path,
    out: Path | None,
    say: Callable[[str], None],
) -> Effect:
    """Run the same tasks of a family with each model under each grammar.

    What is known is written after each arm, so that an interrupted run keeps its finished arms.
    Raises ConfigError for data or models that are not here, and what starting the engine raises.
    """
    effect = Effect(task, tokens, seed, limits, (), made)
    for model in models:
        async with open_runtime(model, home) as runtime:
            make = await FAMILIES[task].plan(Sources(data), tokens, seed, runtime.engine.count_tokens)
            planned = [make(index) for index in range(tasks)]
            for mode in modes:
                traces = None if out is None else out / "traces" / f"{runtime.card.name}-{mode}"
                arm = await _run_arm(runtime, mode, planned, limits, traces, say)
                effect = replace(effect, arms=(*effect.arms, arm))
                if out is not None:
                    effect.write(out)
    return effect
