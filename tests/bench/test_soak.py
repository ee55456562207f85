from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.provenance import provenance
from bench.soak import KILL_WAVE, soak
from bench.soak_report import Calm, Ended, Outcome, SoakResult
from bench.soak_requests import Mix, Shot
from rlm_local.engine.llama.protocol import parse_body, parse_chat, parse_text
from rlm_local.errors import EngineRefused
from tests.engine import toy_models

MIB = 1 << 20
CALM = Calm(10, 1, 0, 500, 500, 1024, True, 300 * MIB, after_kill=False)
GOOD = SoakResult([Outcome("plain", Ended.ANSWERED, 0.1)], [CALM] * 8, kills=0, seconds=1.0, said=[])
SETTING = {"model": "m", "requests": 1}


def shots(seed: int, count: int) -> list[Shot]:
    mix = Mix(seed, 1024)
    return [mix.next() for _ in range(count)]


def test_the_same_seed_asks_the_same_and_another_seed_something_else() -> None:
    def bodies(seed: int) -> list[object]:
        return [(shot.kind, shot.path, shot.body, shot.hang_up_s) for shot in shots(seed, 50)]

    assert bodies(1) == bodies(1)
    assert bodies(1) != bodies(2)


def test_the_mix_has_everything_that_a_soak_promises() -> None:
    kinds = {shot.kind.partition(",")[0] for shot in shots(3, 2000)}
    wanted = "plain long stream n logprobs stop regex json grammar choice supervised not JSON"
    assert kinds >= {*wanted.replace("not JSON", "").split(), "not JSON"}
    bodies = [shot.body for shot in shots(3, 2000) if isinstance(shot.body, dict)]
    assert len({body.get("cache_salt") for body in bodies}) == 4
    assert any("priority" in body for body in bodies)
    assert any(shot.hang_up_s is not None for shot in shots(3, 200))


def test_what_is_meant_to_be_served_is_parsed_and_what_is_not_is_refused() -> None:
    for shot in shots(4, 500):
        if shot.path not in ("/v1/chat/completions", "/v1/completions") or shot.kind in ("too long", "other model"):
            continue
        raw = shot.body if isinstance(shot.body, bytes) else json.dumps(shot.body).encode()
        parse: Callable[..., object] = parse_text if shot.path.endswith("/v1/completions") else parse_chat
        if 200 in shot.statuses:
            parse(parse_body(raw))
        elif shot.kind not in ("bad grammar", "bad regex", "half a pair"):  # which are found later
            with pytest.raises(EngineRefused):
                parse(parse_body(raw))


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("regex", "abc-07", "abc-7"),
        ("json", '{"n": 7}', '{"n": 107}'),
        ("json", '{"n":', '{"m":'),  # cut by its length
        ("grammar", "yes!", "yes"),
        ("choice", "bluish green", "bluish"),
    ],
)
def test_a_reply_is_judged_by_what_it_was_held_to(kind: str, right: str, wrong: str) -> None:
    shot = next(shot for shot in shots(5, 1000) if shot.kind == kind)
    assert shot.judge([right]) == ""
    assert repr(wrong) in shot.judge([right, wrong])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"outcomes": [Outcome("n", Ended.WRONG, 0.1, "2 choices, asked for 3")]}, "n: wrong, 2 choices"),
        ({"outcomes": [Outcome("n", Ended.UNANSWERED, 180.0, "nothing")]}, "n: unanswered, nothing"),
        ({"outcomes": [Outcome("n", Ended.LOST, 0.1, "ReadError")]}, ""),
        ({"calms": [replace(CALM, running=1)]}, "after 10 requests 1 requests were never ended"),
        ({"calms": [replace(CALM, cells_freed=499)]}, "500 cells were in use, but 499 could be freed"),
        ({"calms": [replace(CALM, all_cells_served=False)]}, "for nearly all of 1024 cells was not served"),
    ],
)
def test_what_is_not_as_it_must_be_is_a_fault(change: dict[str, object], fault: str) -> None:
    faults = replace(GOOD, **change).faults()
    assert len(faults) == bool(fault)
    assert fault in "".join(faults)


def test_memory_is_compared_by_quarters_of_the_process_that_was_not_killed() -> None:
    sizes = [100, 200, 300, 300, 305, 306, 308, 312]  # MiB; the first ones are a process that warms up
    killed = [replace(CALM, after_kill=True, rss_bytes=9_000 * MIB)] * 5
    grown = replace(GOOD, calms=[*killed, *(replace(CALM, rss_bytes=size * MIB) for size in sizes)])
    memory = grown.memory()
    assert memory is not None
    assert (memory.second_quarter_bytes, memory.last_quarter_bytes) == (300 * MIB, 310 * MIB)
    assert grown.faults() == ["memory grew by 3.3% from the second to the last quarter"]
    assert replace(GOOD, calms=[CALM] * 7).memory() is None


def test_the_page_and_the_object_say_the_same(tmp_path: Path) -> None:
    result = replace(GOOD, outcomes=[Outcome("n", Ended.WRONG, 2.5, "2 choices, asked for 3")])
    result.write(tmp_path, SETTING, provenance("python -m bench soak"))
    told = json.loads((tmp_path / "result.json").read_text())
    page = (tmp_path / "result.md").read_text()
    assert told["faults"] == ["n: wrong, 2 choices, asked for 3"]
    assert told["ended"] == {"wrong": 1, "unanswered": 0}
    assert (told["slowest_s"], told["memory"]["growth"]) == (2.5, 0.0)
    assert "# soak, m: 1 faults" in page
    assert "- n: wrong, 2 choices, asked for 3" in page
    assert "| n | 1 wrong |" in page


@pytest.mark.engine
@pytest.mark.asyncio
async def test_a_short_soak_of_a_real_engine_finds_no_fault(tmp_path: Path) -> None:
    weights = toy_models.sliding(tmp_path / "toy.gguf")
    result = await soak(weights, "toy", requests=2 * KILL_WAVE, kills=1, seed=7, say=lambda _: None)
    assert result.faults() == []
    assert (len(result.outcomes), result.kills, len(result.calms)) == (2 * KILL_WAVE, 1, 2)
    assert result.calms[0].pid != os.getpid()
    ended = {outcome.ended for outcome in result.outcomes}
    assert ended >= {Ended.ANSWERED, Ended.REFUSED, Ended.LOST}
