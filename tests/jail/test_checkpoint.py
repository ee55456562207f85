"""A session is brought back from its record, in a jail that has never seen it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence

import pytest

from rlm_local.errors import ConfigError
from rlm_local.jail.checkpoint import Checkpoint, PastCell
from rlm_local.jail.session import JailSession
from rlm_local.limits import Limits
from rlm_local.types import CellResult, CellStatus, JsonValue, SubCall, Usage
from tests.jail.conftest import echo

Start = Callable[..., Awaitable[JailSession]]


async def never(prompts: Sequence[str]) -> list[SubCall]:
    raise AssertionError(prompts)


def through_json(checkpoint: Checkpoint) -> Checkpoint:
    return Checkpoint.from_object(json.loads(json.dumps(checkpoint.as_object())))


@pytest.mark.jail
async def test_a_session_goes_on_elsewhere_as_if_nothing_had_been(start: Start) -> None:
    first = await start()
    await first.execute("import random\nreply = llm_query('what?'); n = random.random()", wall_s=20, query=echo)
    await first.execute("def f():\n    return 1 / 0\nraise ValueError('half way')", wall_s=20, query=echo)
    told = (await first.execute("reply, n", wall_s=20, query=echo)).stdout
    record = through_json(first.checkpoint())
    await first.close()
    second = await start()
    await second.restore(record)
    assert (await second.execute("reply, n", wall_s=20, query=never)).stdout == told
    assert 'File "<cell 2>", line 2, in f' in (await second.execute("f()", wall_s=20, query=never)).error


@pytest.mark.jail
async def test_what_cannot_be_run_again_is_told_after_the_next_cell(start: Start) -> None:
    first = await start()
    await first.execute("x = 1", wall_s=20, query=echo)
    assert (await first.execute("while True: pass", wall_s=0.3, query=echo)).status is CellStatus.TIMEOUT
    second = await start()
    await second.restore(through_json(first.checkpoint()))
    result = await second.execute("x", wall_s=20, query=never)
    assert (result.stdout, "variables of cell 2 are gone" in result.error) == ("1\n", True)


@pytest.mark.jail
async def test_a_restored_session_is_rebuilt_like_any_other(start: Start) -> None:
    first = await start()
    await first.execute("x = llm_query('a')", wall_s=20, query=echo)
    second = await start()
    await second.restore(first.checkpoint())
    await second.execute("import os; os._exit(1)", wall_s=20, query=never)
    assert (await second.execute("x", wall_s=20, query=never)).stdout == "'A'\n"
    assert second.checkpoint().count == 3


@pytest.mark.jail
async def test_a_trace_is_enough_of_a_record(start: Start) -> None:
    call = SubCall("what?", "that", Usage())
    results = [
        ("x = llm_query('what?')", CellResult(CellStatus.OK, "", subcalls=(call,))),
        ("import os; os._exit(1)", CellResult(CellStatus.KILLED, "")),
        ("y = x * 2", CellResult(CellStatus.OK, "")),
    ]
    session = await start()
    await session.restore(Checkpoint.of_results(results, Limits()))
    result = await session.execute("y", wall_s=20, query=never)
    assert (result.stdout, result.error) == ("'thatthat'\n", "")
    assert session.checkpoint().count == 4


@pytest.mark.jail
async def test_a_session_that_has_begun_takes_no_record(start: Start) -> None:
    session = await start()
    await session.execute("1", wall_s=20, query=echo)
    with pytest.raises(ConfigError, match="1 cells have run"):
        await session.restore(Checkpoint((), 0))


def good() -> dict[str, JsonValue]:
    cell = PastCell(2, "x", 1.5, (SubCall("p", "a", Usage()),), CellStatus.OK)
    return Checkpoint((cell,), 3, (1,)).as_object()


def test_a_record_survives_json() -> None:
    assert Checkpoint.from_object(json.loads(json.dumps(good()))).as_object() == good()


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": 2},
        {"count": "3"},
        {"count": 1},
        {"cells": None},
        {"cells": [{"number": 1}]},
        {"cells": [{"number": 1, "code": 1, "wall_s": 1.0, "status": "ok", "subcalls": []}]},
        {"cells": [{"number": 1, "code": "", "wall_s": 1.0, "status": "fine", "subcalls": []}]},
        {"cells": [{"number": 1, "code": "", "wall_s": 1.0, "status": "ok", "subcalls": [["p"]]}]},
        {"gone": [True]},
    ],
)
def test_what_is_no_record_is_refused(wrong: dict[str, JsonValue]) -> None:
    with pytest.raises(ConfigError, match="checkpoint"):
        Checkpoint.from_object(good() | wrong)
