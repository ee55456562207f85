"""A run that could not take its first turn is a mistake of whoever asked, told before anything is computed."""

from __future__ import annotations

import pytest

from rlm_local.controller import Ports, run_node
from rlm_local.errors import ConfigError
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.testing import KeptEvents, ScriptedEngine, ScriptedRepl
from rlm_local.types import Answer, Corpus, Document, Request, Sampling

CORPUS = Corpus((Document("rules.txt", "The fee is 30 euros."),), "The fee is 30 euros.", (0,))


async def ask(engine: ScriptedEngine, question: str, limits: Limits) -> Answer:
    return await run_node(
        Request(question, CORPUS.documents, limits),
        CORPUS,
        Ports(engine, ScriptedRepl(), KeptEvents()),
        load_profile("small"),
        sampling=Sampling(),
        cite=lambda *_, **__: (),
    )


async def test_a_question_that_leaves_no_room_for_a_turn_is_refused_with_the_numbers() -> None:
    engine = ScriptedEngine([], window_tokens=8_192)
    with pytest.raises(ConfigError, match=r"too long: .* but the window holds 8,192") as refused:
        await ask(engine, "What is the fee? " * 2_000, Limits())
    assert "shorten it" in refused.value.hint
    assert engine.completions == []


async def test_tokens_that_do_not_pay_for_the_first_turn_are_refused_with_what_it_may_take() -> None:
    engine = ScriptedEngine([], window_tokens=8_192)
    limits = Limits(max_tokens=1_100)  # one turn alone may write 1024, and the rules are longer than 76
    with pytest.raises(ConfigError, match=r"--max-tokens is 1,100, but its first turn may take \d,\d{3}"):
        await ask(engine, "What is the fee?", limits)
    assert engine.completions == []
