"""A real vLLM on the CPU: what it reuses, what its mask holds a turn to, and a run that outlives its death.

`make vllm-cpu-env` makes what this needs, `make vllm-test` runs it. One server at a time: it takes 6 GiB.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from rlm_local.cards import find_card, load_cards
from rlm_local.engine.vllm.launch import DEFAULT_BACKEND, Backend, VllmEngine, launch_vllm
from rlm_local.events import TurnStarted, TurnTaken, TurnWritten
from rlm_local.grammar import TurnState, decode_turn, turn_grammar
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.runtime import Runtime
from rlm_local.testing import KeptEvents
from rlm_local.types import (
    Cell,
    Completion,
    Document,
    Final,
    FinalVar,
    Malformed,
    Message,
    ReplyStop,
    Request,
    Role,
    Sampling,
)
from tests.e2e.vllm_server import asked, launch, process_of, whole_blocks
from tools.vllm_env import TEST_MODEL

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session")]

TURN_TOKENS = 96
ALLOWED = {TurnState.FIRST: Cell, TurnState.OPEN: (Cell, Final, FinalVar), TurnState.LAST: (Final, FinalVar)}
LEASE = Document("lease.txt", "Rent is due on the first day of each month.\n" * 40 + "Notice is ninety days.\n")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vllm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    runtime = tmp_path_factory.mktemp("run")
    backend = Backend(os.environ.get("RLM_LOCAL_VLLM_GRAMMAR") or DEFAULT_BACKEND)
    async with launch_vllm(launch(runtime, backend)) as engine:
        yield engine
    assert [entry.name for entry in runtime.iterdir()] == ["vllm.log"]


async def test_the_server_was_asked_what_it_honours(vllm: VllmEngine) -> None:
    (told,) = vllm.notes
    assert "obeys grammars" in told
    assert "keeps scopes apart" in told
    assert told.endswith("scores choices")


async def test_whole_blocks_of_a_prompt_are_found_again_in_its_scope_and_in_no_other(vllm: VllmEngine) -> None:
    head = "The harbour master wrote down every ship that came. " * 70
    first = await vllm.complete(asked(f"{head}Which came first?", scope="a"))
    again = await vllm.complete(asked(f"{head}Which came first?", scope="a"))
    beside = await vllm.complete(asked(f"{head}How many were there in all?", scope="a"))
    other = await vllm.complete(asked(f"{head}Which came first?", scope="b"))
    assert first.usage.cached_tokens == 0
    assert again.usage.cached_tokens == whole_blocks(first.usage.prompt_tokens - 1)
    assert beside.usage.cached_tokens == whole_blocks(await head_tokens(vllm, head, first.usage.prompt_tokens))
    assert other.usage.cached_tokens == 0


async def head_tokens(vllm: VllmEngine, head: str, prompt_tokens: int) -> int:
    """Return the tokens that the prompt has before its question: all but the question's and the template's end."""
    empty = (await vllm.complete(asked("x"))).usage.prompt_tokens - 1  # the template's, before and behind
    behind = await vllm.count_tokens("<|im_end|>\n<|im_start|>assistant\n")
    question = await vllm.count_tokens(f"{head}Which came first?") - await vllm.count_tokens(head.rstrip())
    assert prompt_tokens == empty + await vllm.count_tokens(f"{head}Which came first?")
    return prompt_tokens - behind - question


async def test_choices_are_as_likely_as_their_tokens_one_after_the_other(vllm: VllmEngine) -> None:
    labels = ("number", "person", "a place on the map", "numbering")
    question = "What does the question ask for? How many people live in Rome?"
    reply = await vllm.complete(asked(question, choices=labels))
    alone = await vllm.complete(asked(question, choices=labels[2:3]))
    assert reply.text == labels[max(range(4), key=reply.logprobs.__getitem__)]
    assert all(one < 0 for one in reply.logprobs)
    assert alone.logprobs == pytest.approx(reply.logprobs[2:3], abs=0.2)  # bfloat16, in batches of other sizes


@pytest.mark.parametrize("state", list(TurnState))
async def test_a_hot_turn_is_of_the_kind_that_its_state_allows(vllm: VllmEngine, state: TurnState) -> None:
    grammar = turn_grammar(state, vllm.info.grammar_dialect)
    chat = (
        Message(Role.USER, "How long is the text?"),
        Message(Role.ASSISTANT, "```repl\nprint(len(context))\n```"),
        Message(Role.USER, "1234"),
    )
    ask = [
        vllm.complete(Completion(chat, TURN_TOKENS, Sampling(temperature=1.2, top_k=20, seed=seed), grammar))
        for seed in range(4)
    ]
    for reply in await asyncio.gather(*ask):
        action = decode_turn(reply.text, reply.stop)
        assert isinstance(action, Malformed if reply.stop is ReplyStop.LENGTH else ALLOWED[state]), reply.text


@pytest.mark.jail
@pytest.mark.parametrize("victim", ["nobody", "server", "computing process"])
async def test_a_run_ends_right_whoever_is_killed_in_its_middle(nsjail: None, vllm: VllmEngine, victim: str) -> None:
    card = find_card(TEST_MODEL, load_cards())
    runtime = Runtime(card, load_profile(card.profile, card.protocol), vllm, "0" * 64)
    recorder, before = KeptEvents(), vllm.pid
    limits = Limits(max_turns=4, turn_tokens=TURN_TOKENS, answer_tokens=48, wall_s=3_000)
    run = asyncio.create_task(runtime.ask(Request("How long is the notice?", (LEASE,), limits), recorder, scope="r"))
    if victim != "nobody":
        while len(of(recorder, TurnStarted)) < 2:  # so that the second turn is being written
            assert not run.done()
            await asyncio.sleep(0.01)
        os.kill(process_of(vllm.pid, computing=victim == "computing process"), signal.SIGKILL)
    answer = await run
    assert answer.value is not None
    assert answer.turns == len(of(recorder, TurnWritten)) == len(of(recorder, TurnTaken))
    assert (vllm.pid != before) is (victim != "nobody")
    # The grammar of every turn: what its state allows, or cut at its limit, which says so.
    for started, taken in zip(of(recorder, TurnStarted), of(recorder, TurnTaken), strict=True):
        action = taken.turn.action
        was_cut = isinstance(action, Malformed) and taken.turn.usage.completion_tokens in (TURN_TOKENS, 48)
        assert was_cut or isinstance(action, ALLOWED[TurnState(started.state)]), taken.turn.text


def of(recorder: KeptEvents, kind: type) -> list:
    return [event for event in recorder.events if isinstance(event, kind)]
