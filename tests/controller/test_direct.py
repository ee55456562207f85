"""The short way: one request with the whole text, where it fits, and what is said of its answer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.controller import Past, answer_directly
from rlm_local.documents import cite, coverage, join
from rlm_local.errors import ConfigError
from rlm_local.events import Replied, RunEnded, TurnTaken
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.runtime import Runtime, choose
from rlm_local.testing import KeptEvents, ScriptedEngine
from rlm_local.types import Answer, Document, JsonValue, Reply, ReplyStop, Request, Route, Sampling, StopReason, Usage

LEASE = Document("lease", "The tenant pays monthly.\nThe notice period is ninety days.\n")
QUESTION = "How long is the notice period?"
PROFILE = load_profile("small")


def asked(*, schema: JsonValue = None, **limits: float) -> Request:
    return Request(QUESTION, (LEASE,), Limits(**limits), answer_schema=schema, route=Route.DIRECT)  # type: ignore[arg-type]


async def answer(
    request: Request, *replies: str | Reply, recorder: KeptEvents | None = None, past: Past | None = None
) -> Answer:
    corpus = join(request.documents)
    return await answer_directly(
        request,
        corpus,
        PROFILE,
        ScriptedEngine(replies),
        recorder or KeptEvents(),
        sampling=Sampling(),
        cite=partial(cite, corpus=corpus, question=request.question),
        cover=partial(coverage, corpus),
        past=past,
    )


async def test_a_direct_answer_cites_what_stands_in_the_documents_and_has_read_all_of_them() -> None:
    found = await answer(asked(), "ninety days")
    assert (found.value, found.confirmed, found.route, found.turns) == ("ninety days", True, Route.DIRECT, 1)
    (citation,) = found.citations
    assert LEASE.text[citation.start : citation.end] == citation.quote
    assert "ninety days" in citation.quote
    assert found.read_share == 1.0


@pytest.mark.parametrize(
    ("schema", "reply", "reason"),
    [
        (None, "about 77 weeks", "nothing in the documents says so"),
        (None, " ", "the model gave an empty answer"),
        ({"type": "integer"}, "ninety", "the reply is no JSON"),
    ],
)
async def test_a_direct_answer_that_nothing_supports_is_unconfirmed(schema: JsonValue, reply: str, reason: str) -> None:
    found = await answer(asked(schema=schema), reply)
    assert not found.confirmed
    assert reason in found.reason


async def test_tokens_that_do_not_last_for_a_direct_answer_are_not_spent() -> None:
    found = await answer(asked(max_tokens=60, turn_tokens=10, answer_tokens=10))
    assert (found.stop, found.value, found.usage) == (StopReason.TOKEN_LIMIT, None, Usage())


async def test_a_direct_answer_that_was_paid_for_is_not_paid_for_again() -> None:
    whole, again = KeptEvents(), KeptEvents()
    first = await answer(asked(), Reply("ninety days", ReplyStop.COMPLETE, Usage(40, 0, 4)), recorder=whole)
    cut = [event for event in whole.events if not isinstance(event, TurnTaken | RunEnded)]
    assert any(isinstance(event, Replied) for event in cut)
    second = await answer(asked(), recorder=again, past=Past(cut, [0.0] * len(cut)))
    assert replace(second, wall_s=0.0) == replace(first, wall_s=0.0)
    assert [type(event) for event in again.events] == [TurnTaken, RunEnded]


@pytest.mark.parametrize(
    ("route", "crossover", "taken", "reason"),
    [
        (Route.AUTO, None, Route.RLM, "no crossover is measured for"),
        (Route.AUTO, 100, Route.RLM, "tokens, and a direct answer is as good up to 100"),
        (Route.AUTO, 4_000, Route.DIRECT, "tokens, and a direct answer is as good up to 4,000"),
        (Route.DIRECT, None, Route.DIRECT, "as asked"),
        (Route.RLM, 4_000, Route.RLM, "as asked"),
    ],
)
async def test_the_way_is_chosen_by_the_cards_crossover_and_said(
    route: Route, crossover: int | None, taken: Route, reason: str
) -> None:
    card = replace(find_card(DEFAULT_MODEL, load_cards()), direct_up_to_tokens=crossover)
    request = replace(asked(), route=route)
    chosen = await choose(request, join(request.documents), card, PROFILE, ScriptedEngine([]))
    assert chosen.route is taken
    assert reason in chosen.reason


@pytest.mark.parametrize(("chars", "size"), [(40_000, r"10,\d+ tokens"), (2_000_000, r"2,000,\d+ characters")])
async def test_what_fits_no_window_is_not_asked_directly_and_goes_to_a_run_by_itself(chars: int, size: str) -> None:
    card = replace(find_card(DEFAULT_MODEL, load_cards()), direct_up_to_tokens=10**9)
    request = replace(asked(), documents=(Document("long", "word " * (chars // 5)),))
    corpus = join(request.documents)
    with pytest.raises(ConfigError, match=rf"have {size}.*but the window holds 8,192 tokens"):
        await choose(request, corpus, card, PROFILE, ScriptedEngine([]))
    chosen = await choose(replace(request, route=Route.AUTO), corpus, card, PROFILE, ScriptedEngine([]))
    assert chosen.route is Route.RLM


async def test_a_runtime_takes_the_short_way_without_a_jail() -> None:
    card = find_card(DEFAULT_MODEL, load_cards())
    engine, recorder = ScriptedEngine(["ninety days"]), KeptEvents()
    found = await Runtime(card, PROFILE, engine, "0" * 64).ask(asked(), recorder)
    assert (found.value, found.route) == ("ninety days", Route.DIRECT)
    assert [type(event).__name__ for event in recorder.events[:3]] == ["RunStarted", "Routed", "TurnStarted"]
