"""The fuzzer of the channel, a slice of it; and figures as a page."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.jail import figures
from bench.jail.churn import ChurnResult, Left
from bench.jail.figures import Figure
from bench.jail.frames import Generator
from bench.jail.fuzz import LIMITS, drawn_payloads, fuzz, honest_end
from bench.jail.puppet import puppets
from bench.output import RESULT
from bench.provenance import provenance
from rlm_local.documents import join
from rlm_local.jail import JailSession, wire
from rlm_local.types import CellStatus, Document, Span, SubCall, Usage

DOCUMENTS = (Document("a", "x" * 100),)


async def test_nothing_that_a_worker_writes_upsets_the_host() -> None:
    result = await fuzz(3_000, 0.0, seed=11, seeds=drawn_payloads(100, 11), say=lambda line: None)
    assert result.faults == []
    assert result.frames >= 3_000
    assert {"killed", "ok"} <= set(result.ended)  # some break the channel, and some do not
    assert json.loads(json.dumps(result.as_object()))["ended"] == dict(result.ended)


async def test_frames_may_be_cut_between_any_two_bytes() -> None:
    """A worker that asks, reports and ends, its bytes written in two portions, cut at each place in turn."""

    def frames(cell_id: int) -> bytes:
        query = {"op": "query", "id": 1, "cell_id": cell_id, "kind": "query", "texts": ["a", "b"]}
        query |= {"args": {}, "behind": 0, "ahead": 0}
        spans = {"op": "spans", "cell_id": cell_id, "spans": [[0, 3, 9]]}
        sent = (wire.encode(frame, max_bytes=wire.FROM_JAIL_BYTES) for frame in (query, spans))
        return b"".join(sent) + honest_end(cell_id)

    async def play(channel: socket.socket, cell_id: int) -> None:
        data, loop = frames(cell_id), asyncio.get_running_loop()
        await loop.sock_sendall(channel, data[: cell_id - 1])
        await asyncio.sleep(0.001)  # the host has taken in the first portion, or takes both at once: both must do
        await loop.sock_sendall(channel, data[cell_id - 1 :])

    async def answer(prompts: Sequence[str], *_: object) -> list[SubCall]:
        return [SubCall(prompt, prompt, Usage()) for prompt in prompts]

    async with await JailSession.start(join(DOCUMENTS), LIMITS, jails=puppets(play, Counter())) as session:
        for _ in range(len(frames(1)) + 1):
            cell = await session.execute("", wall_s=60, query=answer)
            assert cell.status is CellStatus.OK, cell.error
            assert cell.spans == (Span(0, 3, 9),)


def test_the_same_seed_writes_the_same_frames() -> None:
    first, second = (Generator(5, [b"{}"]) for _ in range(2))
    assert [first.script(n) for n in range(1, 30)] == [second.script(n) for n in range(1, 30)]


@pytest.mark.parametrize(("samples", "met"), [((1.0, 2.0, 9.0), True), ((3.0,), False), ((), False)])
def test_a_goal_is_met_by_the_median(samples: tuple[float, ...], met: bool) -> None:
    assert Figure("start", "ms", samples, goal=2.5).is_met is met


def test_figures_are_written_with_what_made_them(tmp_path: Path) -> None:
    left_out = Figure("peer", "ms", (), remark="it is not here")
    figures.write(
        tmp_path, "Title", {"One": [Figure("start", "ms", (4.0, 1250.0)), left_out]}, provenance("c"), {"a": "b"}
    )
    page = (tmp_path / figures.PAGE).read_text(encoding="utf-8")
    assert "| start | 627 ms | 1250 ms | 4 ms | 2 |  |" in page
    assert "left out: it is not here" in page
    assert "| command | `c` |" in page
    told = json.loads((tmp_path / RESULT).read_text(encoding="utf-8"))
    assert told["sections"]["One"][0]["samples"] == [4.0, 1250.0]


def test_what_a_churn_leaves_is_a_fault() -> None:
    before = Left(descriptors=9, processes=1, mounts=20, cgroups=0, folders=0, rss_bytes=50 << 20)
    after = Left(descriptors=10, processes=1, mounts=20, cgroups=2, folders=0, rss_bytes=51 << 20)
    result = ChurnResult(10, 2, before=before, after=after)
    assert result.faults() == ["descriptors: 9 before, 10 after", "cgroups: 0 before, 2 after"]
