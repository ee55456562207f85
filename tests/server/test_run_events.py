"""/v1/rlm/runs/ID/events: from the beginning, then live, and no more in memory than a reader takes."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import AsyncExitStack, closing
from typing import Any

from rlm_local.server.database import Database
from rlm_local.server.follow import PIECE_BYTES
from tests.server.running import RUNS, Serve, ended, follow, followed_while_held, look, start
from tests.server.scripted import FINAL, LOOK, PausedEngine, Served


async def test_events_come_from_the_beginning_then_live_and_a_reader_may_come_back(serve: Serve) -> None:
    engine = PausedEngine([LOOK, FINAL])
    served = await serve(engine)
    made, early = await followed_while_held(served, engine)
    engine.go.set()
    told = await early
    names = [name for name, _ in told]
    assert [name for name in names if name != "tokens_counted"][:2] == ["run_started", "turn_started"]
    assert names[-2:] == ["run_ended", "ended"]
    assert [event["seq"] for _, event in told[:-1]] == list(range(len(told) - 1))
    assert told[-1][1] == await look(served, made)
    assert await follow(served, made) == told
    assert await follow(served, made, **{"Last-Event-ID": "1.2"}) == told[3:]
    for odd in ("2", "1.2.3", "9" * 40, "x"):
        assert await follow(served, made, **{"Last-Event-ID": odd}) == told
    # Of an attempt that was cut short nothing is gone on with.
    again = await follow(served, made, **{"Last-Event-ID": "7.2"})
    assert again == [("restarted", {"attempt": 1}), *told]


async def test_events_of_a_run_that_is_deleted_meanwhile_end_with_an_error(serve: Serve) -> None:
    engine = PausedEngine([LOOK, FINAL])
    served = await serve(engine)
    made, reading = await followed_while_held(served, engine)
    with closing(Database(served.socket.parent / "state")) as database:
        database.write("DELETE FROM runs WHERE id = ?", made["id"])
    engine.go.set()
    told = await reading
    assert told[-1][0] == "error"
    assert told[-1][1]["error"]["code"] == "not_found"


async def lengthen(served: Served, run: dict[str, Any], *, size: int) -> int:
    """Make the trace of a run that has ended longer by `size` bytes, and return how many events it has."""
    path = served.socket.parent / "state" / "runs" / f"{run['id']}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    long = json.dumps(json.loads(lines[-1]) | {"more": "x" * 10_000}).encode() + b"\n"
    count = size // len(long) + 1
    path.write_bytes(b"".join(lines) + long * count)
    return len(lines) + count


async def test_a_long_trace_comes_whole_and_its_end_behind_it(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    run = await ended(served, await start(served))
    count = await lengthen(served, run, size=4 * PIECE_BYTES)
    told = await follow(served, run)
    assert [name for name, _ in told].index("ended") == len(told) - 1 == count


async def test_readers_who_do_not_read_hold_little_of_a_long_trace(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    run = await ended(served, await start(served))
    await lengthen(served, run, size=40 * PIECE_BYTES)
    tracemalloc.start()
    try:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(served.client.stream("GET", f"{RUNS}/{run['id']}/events"))
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * PIECE_BYTES  # a piece and its lines for each, of which one alone would hold 40 if it held all


async def test_a_reader_of_a_long_trace_is_told_when_it_is_deleted_before_he_was_through(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    run = await ended(served, await start(served))
    await lengthen(served, run, size=40 * PIECE_BYTES)
    async with served.client.stream("GET", f"{RUNS}/{run['id']}/events") as response:
        lines = response.aiter_lines()
        assert "run_started" in [await anext(lines) for _ in range(2)][1]
        assert (await served.client.delete(f"{RUNS}/{run['id']}")).status_code == 200
        names = [line.removeprefix("event: ") async for line in lines if line.startswith("event: ")]
    assert names[-1] == "error"
