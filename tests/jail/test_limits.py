"""What a cell may use: output, time, memory; and what becomes of one that uses more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from rlm_local.jail.session import JailSession
from rlm_local.limits import Limits
from rlm_local.types import CellResult, CellStatus, SubCall, Usage

pytestmark = pytest.mark.jail
Run = Callable[..., Awaitable[CellResult]]
Start = Callable[..., Awaitable[JailSession]]


async def echo(prompts: Sequence[str]) -> list[SubCall]:
    return [SubCall(prompt, prompt.upper(), Usage()) for prompt in prompts]


@pytest.mark.parametrize("printed", [100, 4096, 4097, 10_000_000])
async def test_long_output_keeps_head_and_tail_and_is_counted_to_the_byte(
    run: Run, limits: Limits, printed: int
) -> None:
    result = await run(f"print('<' + 'x' * {printed - 3} + '>')")
    assert len(result.stdout) + result.truncated_bytes + len(result.stdout_tail) == printed
    assert result.stdout.startswith("<")
    assert (result.stdout_tail or result.stdout).endswith(">\n")
    assert result.truncated_bytes == max(0, printed - limits.cell_output_bytes)


async def test_a_character_that_the_cut_goes_through_is_dropped_whole(run: Run) -> None:
    result = await run("print('a' + '€' * 10_000, end='')")
    assert set(result.stdout) == {"a", "€"}
    assert set(result.stdout_tail) == {"€"}
    kept = len((result.stdout + result.stdout_tail).encode())
    assert result.truncated_bytes == 30_001 - kept


async def test_a_cell_that_floods_stdout_is_cut_and_the_next_cell_still_runs(run: Run) -> None:
    flood = await run("while True: print('x' * 1000)", wall_s=0.5)
    assert flood.status is CellStatus.TIMEOUT
    assert flood.truncated_bytes > 0
    assert (await run("print(1)")).stdout == "1\n"


async def test_a_loop_is_interrupted_and_keeps_its_variables(run: Run) -> None:
    result = await run("n = 0\nwhile True: n += 1", wall_s=0.3)
    assert result.status is CellStatus.TIMEOUT
    assert "KeyboardInterrupt" in result.error
    assert result.error.endswith("\nThe code ran too long and was stopped; its variables are kept.")
    assert (await run("n > 0")).stdout == "True\n"


async def test_code_that_does_not_heed_the_interrupt_is_killed_and_the_session_rebuilt(run: Run) -> None:
    await run("x = llm_query('kept')")
    calls_before = await run("sum(range(10**14))", wall_s=0.3)
    assert calls_before.status is CellStatus.TIMEOUT
    assert "rebuilt" in calls_before.error
    assert "this cell's variables are gone" in calls_before.error

    async def never(prompts: Sequence[str]) -> list[SubCall]:
        raise AssertionError(prompts)

    assert (await run("x", query=never)).stdout == "'KEPT'\n"


async def test_a_cell_that_catches_every_interrupt_is_killed(run: Run) -> None:
    stubborn = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    assert (await run(stubborn, wall_s=0.3)).status is CellStatus.TIMEOUT
    assert (await run("1 + 1")).stdout == "2\n"


async def test_processor_time_is_limited_apart_from_wall_time(start: Start, limits: Limits) -> None:
    session = await start(limits=replace(limits, cell_cpu_s=0.3))
    result = await session.execute("while True: pass", wall_s=60, query=echo)
    assert result.status is CellStatus.TIMEOUT
    assert result.elapsed_s < 60


async def test_waiting_for_a_sub_call_does_not_count(run: Run) -> None:
    async def slow(prompts: Sequence[str]) -> list[SubCall]:
        await asyncio.sleep(0.6)
        return await echo(prompts)

    result = await run("llm_query('a')", wall_s=0.4, query=slow)
    assert result.status is CellStatus.OK
    assert result.elapsed_s >= 0.6


async def test_memory_that_is_not_there_raises_and_the_session_goes_on(run: Run) -> None:
    await run("x = 1")
    result = await run("hoard = []\nwhile True: hoard.append(bytearray(1 << 20))")
    assert result.status is CellStatus.OUT_OF_MEMORY
    assert "MemoryError" in result.error
    assert result.error.endswith("its variables are kept.")
    assert (await run("del hoard\nx")).stdout == "1\n"
