"""`python -m bench load`: what it sends, what it takes for a fault, and a small one on a real server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.load import Plan, load
from bench.load_client import Caller
from bench.load_report import Ended, LoadResult, Outcome, Sample, percentile
from bench.load_requests import DECK, HAND, Shot, Tenant, chat_body, deal, foreign, new_canary, own_word
from bench.provenance import provenance
from rlm_local.cards import find_card, load_cards
from rlm_local.config import home
from rlm_local.errors import JailUnavailable, StoreError
from rlm_local.jail import nsjail_binary
from rlm_local.server.conversation import DOCUMENT_CHARS
from rlm_local.store import Store

MODEL = "smollm2-135m"
ADA, BOB = Tenant("ada", "rlm-a", "0123456789ab"), Tenant("bob", "rlm-b", "fedcba987654")
REST = Sample(0, 0, 100 << 20, 20, 300 << 20, 0, 10, 3)
GOOD = LoadResult([Outcome("direct", Ended.ANSWERED, 0.1)], [1], ["1.0"] * 100, [REST] * 80, REST, REST, 9.0, [], 20)


def test_every_hundred_requests_has_each_kind_as_often_as_the_deck_says() -> None:
    shots = deal(250, 20, seed=1)
    assert HAND == 100
    assert Counter(shot.kind for shot in shots[100:200]) == DECK
    assert sum(shot.is_dropped for shot in shots[:100]) == 10
    assert {shot.tenant for shot in shots} == set(range(20))
    assert deal(250, 20, seed=1) == shots != deal(250, 20, seed=2)


def test_a_tenants_canary_stands_in_all_that_he_sends_and_no_other_tenants() -> None:
    assert len(ADA.document) > DOCUMENT_CHARS
    for kind in DECK:
        sent = json.dumps(chat_body(Shot(kind, 0, 7), ADA, MODEL))
        assert ADA.canary in sent
        assert foreign(sent, ADA, [ADA, BOB]) == []
        assert foreign(sent, BOB, [ADA, BOB]) == ["ada"]
    assert len({new_canary() for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["the code is 0123456789ab.", "0123456789AB", '{"x":"01234567"}'])
def test_the_beginning_of_a_canary_is_enough_to_be_seen(text: str) -> None:
    assert foreign(text, BOB, [ADA, BOB]) == ["ada"]
    assert foreign(text, ADA, [ADA, BOB]) == []


def answering(*answers: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    given = iter(answers)
    return lambda _: next(given)


def said(content: str) -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"message": {"content": content}}]})


def error(status: int, **headers: str) -> httpx.Response:
    told = {"message": "later", "type": "server_error", "param": None, "code": "unavailable"}
    return httpx.Response(status, json={"error": told}, headers=headers)


SCHEMA = Shot("direct, schema", 0, 7)
STREAM = Shot("direct, stream", 0, 4)
DROPPED = Shot("direct, stream, dropped", 0, 4)  # after its first piece
OTHERS = Shot("another's", 0, 4)


@pytest.mark.parametrize(
    ("shot", "answers", "ended"),
    [
        (Shot("direct", 0, 7), [said("anything")], Ended.ANSWERED),
        (Shot("direct", 0, 7), [error(429, **{"Retry-After": "0"}), said("anything")], Ended.ANSWERED),
        (Shot("direct", 0, 7), [error(500)], Ended.WRONG),
        (Shot("direct", 0, 7), [httpx.Response(200, text="no JSON")], Ended.WRONG),
        (Shot("direct", 0, 7), [httpx.Response(503, text="no JSON", headers={"Retry-After": "x"})], Ended.WRONG),
        (SCHEMA, [said(json.dumps(own_word(SCHEMA, ADA)))], Ended.ANSWERED),
        (SCHEMA, [said(json.dumps(own_word(Shot("direct, schema", 0, 8), ADA)))], Ended.WRONG),
        (STREAM, [httpx.Response(200, text='data: {"x": 1}\n\ndata: [DONE]\n\n')], Ended.ANSWERED),
        (STREAM, [httpx.Response(200, text="data: " + error(503).text + "\n\n")], Ended.ERROR),
        (STREAM, [httpx.Response(200, text='data: {"x": 1}\n\n')], Ended.WRONG),
        (DROPPED, [httpx.Response(200, text='data: {"x": 1}\n\ndata: [DONE]\n\n')], Ended.DROPPED),
        (OTHERS, [error(404)], Ended.REFUSED),
        (OTHERS, [httpx.Response(200, text="hers")], Ended.WRONG),
        (Shot("no key", 0, 7), [error(401)], Ended.REFUSED),
        (Shot("no key", 0, 7), [error(404)], Ended.WRONG),
    ],
)
async def test_what_comes_back_is_judged(shot: Shot, answers: list[httpx.Response], ended: Ended) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answering(*answers)), base_url="http://s") as http:
        found = await Caller(http, MODEL, [ADA, BOB], {0: "file-a", 1: "file-b"}).fire(shot)
    assert found.ended is ended, found.detail
    assert found.turned_away == (429,) * (len(answers) - 1)
    assert found.crossed == ()


@pytest.mark.parametrize("shot", [Shot("direct", 0, 7), STREAM, DROPPED, OTHERS])
async def test_another_tenants_canary_anywhere_in_an_answer_is_a_crossing(shot: Shot) -> None:
    answer = httpx.Response(200, json={"choices": [{"message": {"content": f"It is {BOB.canary[:10]}"}}]})
    async with httpx.AsyncClient(transport=httpx.MockTransport(answering(answer)), base_url="http://s") as http:
        found = await Caller(http, MODEL, [ADA, BOB], {0: "file-a", 1: "file-b"}).fire(shot)
    assert found.crossed == ("bob",)
    assert len(replace(GOOD, outcomes=[replace(found, ended=Ended.ANSWERED)]).faults()) == 1


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"outcomes": [Outcome("direct", Ended.ERROR, 0.1, "503")]}, ""),
        ({"outcomes": [Outcome("direct", Ended.WRONG, 0.1, "500: oh")]}, "direct: wrong, 500: oh"),
        ({"outcomes": [Outcome("direct", Ended.UNANSWERED, 0.1, "nothing")]}, "direct: unanswered, nothing"),
        ({"outcomes": [Outcome("direct", Ended.ANSWERED, 0.1, crossed=("t2",))]}, "holds the canary of t2"),
        ({"health": ["1.0"] * 98 + ["251.0"] * 2}, "p99 of /health is 251 ms, but may be 250"),
        ({"health": ["1.0"] * 99 + ["251.0"]}, ""),
        ({"health": ["1.0", "failed: status 503"]}, "/health failed: status 503, 1 times"),
        ({"health": []}, "p99 of /health is inf ms"),
        ({"after": replace(REST, server_descriptors=21)}, "server descriptors: 20 before, 21 after"),
        ({"after": replace(REST, processes=4)}, "processes: 3 before, 4 after"),
        ({"found": ["left behind: python"]}, "left behind: python"),
    ],
)
def test_what_is_not_as_it_must_be_is_a_fault(change: dict[str, Any], fault: str) -> None:
    faults = replace(GOOD, **change).faults()
    assert len(faults) == bool(fault)
    assert fault in "".join(faults)


def test_memory_is_compared_by_quarters_and_that_of_the_engine_since_the_last_kill() -> None:
    grown = [replace(REST, server_rss_bytes=REST.server_rss_bytes + at) for at in range(0, 80 << 20, 1 << 20)]
    first = [replace(REST, kills=0, engine_rss_bytes=1 << 20)] * 80
    found = replace(GOOD, samples=[*first, *(replace(sample, kills=1) for sample in grown)])
    assert found.memory()["engine"] == (300 << 20, 300 << 20)
    assert [fault for fault in found.faults() if "memory of the server grew by" in fault]
    assert replace(GOOD, samples=[REST] * 10).memory() == {}


def test_what_the_engine_keeps_on_purpose_is_no_growth() -> None:
    filling = [replace(REST, engine_rss_bytes=(300 + at) << 20, engine_shelved_bytes=at << 20) for at in range(80)]
    assert replace(GOOD, samples=filling).memory()["engine"] == (300 << 20, 300 << 20)


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(each) for each in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50, 99, 100, 100]


def test_the_page_and_the_object_say_the_same(tmp_path: Path) -> None:
    outcomes = [Outcome("direct", Ended.WRONG, 2.5, "500: oh", turned_away=(429, 429))]
    setting = {"model": MODEL, "requests": 1}
    replace(GOOD, outcomes=outcomes).write(tmp_path, setting, provenance("python -m bench load"))
    told, page = json.loads((tmp_path / "result.json").read_text()), (tmp_path / "result.md").read_text()
    assert told["faults"] == ["direct: wrong, 500: oh"]
    assert (told["ended"], told["turned_away"], told["crossed"]) == ({"wrong": 1, "unanswered": 0}, {"429": 2}, 0)
    assert f"# load, {MODEL}: 1 faults" in page
    assert "| direct | 1 wrong | 2.5 s |" in page


@pytest.mark.engine
@pytest.mark.jail
@pytest.mark.slow
async def test_a_small_load_on_a_real_server_whose_engine_is_killed_finds_no_fault(tmp_path: Path) -> None:
    try:
        nsjail_binary()
        Store(home()).path(find_card(MODEL, load_cards()), "llama")
    except (StoreError, JailUnavailable) as missing:
        pytest.skip(f"{missing} ({missing.hint})")
    plan = Plan(requests=60, clients=12, tenants=4, kills=1, seed=3, model=MODEL)
    found = await load(plan, tmp_path, print)
    # How fast /health is on a machine that does other things too is not for a test to say.
    assert [fault for fault in found.faults() if not fault.startswith("p99 of /health")] == []
    assert (len(found.outcomes), len(found.kills)) == (60, 1)
    ended = Counter(outcome.ended for outcome in found.outcomes)
    assert ended[Ended.ANSWERED] > ended[Ended.ERROR]
    assert sum(outcome.has_own for outcome in found.outcomes) > 5  # so that another's could have been seen
    assert found.health_ms()
