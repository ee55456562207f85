"""What is exported is what the model read and wrote, and nothing is marked as its own that it did not write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.controller import Ports, run_node
from rlm_local.documents import join
from rlm_local.errors import TraceError
from rlm_local.events import RunStarted
from rlm_local.export import rl, sft
from rlm_local.limits import Limits
from rlm_local.plan import profile_of
from rlm_local.runtime import Runtime
from rlm_local.testing import QueryingRepl, ScriptedEngine
from rlm_local.trace import Trace, TraceWriter, read_trace
from rlm_local.types import Document, JsonObject, Reply, ReplyStop, Request, Role, Sampling, Usage

CARD = find_card(DEFAULT_MODEL, load_cards())
PROFILE = profile_of(CARD)
LOOK = "```repl\nprint(llm_query('days?'))\n```"
CLOSED = Reply(LOOK, ReplyStop.CLOSED, Usage(10, 0, 5), closed_text="\n```")


async def recorded(path: Path) -> tuple[Trace, ScriptedEngine]:
    """Return the trace of a run of two turns and one sub-call, and the engine that was asked."""
    engine = ScriptedEngine([CLOSED, "ninety days", 'FINAL("ninety days")'], window_tokens=32_000)
    request = Request("How long?", (Document("lease", "The notice period is ninety days.\n"),), Limits())
    corpus = join(request.documents)
    with TraceWriter(path) as writer:
        writer.write(Runtime(CARD, PROFILE, engine, "0" * 64).started(request))
        await run_node(
            request,
            corpus,
            Ports(engine, QueryingRepl(["days?"]), writer),
            PROFILE,
            sampling=Sampling(),
            cite=lambda *_, **__: (),
        )
    return read_trace(path), engine


def plain(messages: object) -> list[tuple[str, str]]:
    assert isinstance(messages, list)
    return [(message["role"], message["content"]) for message in messages]


def own(message: JsonObject) -> str:
    ranges, content = message["own"], message["content"]
    assert isinstance(ranges, list)
    assert isinstance(content, str)
    return "".join(content[start:end] for start, end in ranges)  # type: ignore[misc, has-type]


async def test_a_conversation_is_what_the_model_read_and_marks_what_it_wrote(tmp_path: Path) -> None:
    trace, engine = await recorded(tmp_path / "run.jsonl")
    turns, subcall = sft(trace)
    last = engine.completions[-1].messages
    assert plain(turns["messages"])[: len(last)] == [(message.role.value, message.content) for message in last]
    assert (turns["kind"], turns["answer"], turns["confirmed"]) == ("turns", "ninety days", True)
    assert isinstance(turns["messages"], list)
    written = [own(message) for message in turns["messages"] if message["own"]]  # type: ignore[arg-type, call-overload]
    assert written == [LOOK.removesuffix("\n```"), 'FINAL("ninety days")']  # no worked turn, and no closed end
    asked = engine.completions[1].messages
    assert plain(subcall["messages"]) == [
        *((message.role.value, message.content) for message in asked),
        (Role.ASSISTANT.value, "ninety days"),
    ]


async def test_a_step_is_a_turn_and_the_last_one_has_the_reward(tmp_path: Path) -> None:
    trace, engine = await recorded(tmp_path / "run.jsonl")
    steps = list(rl(trace, 0.5))
    roots = [engine.completions[0], engine.completions[2]]
    assert [plain(step["messages"]) for step in steps] == [
        [(message.role.value, message.content) for message in completion.messages] for completion in roots
    ]
    assert [(step["step"], step["reward"], step["done"]) for step in steps] == [(1, 0.0, False), (2, 0.5, True)]
    assert [step["reward"] for step in rl(trace)] == [None, None]


async def test_a_run_with_other_prompts_is_refused(tmp_path: Path) -> None:
    trace, _ = await recorded(tmp_path / "run.jsonl")
    first = trace.events[0]
    assert isinstance(first, RunStarted)
    other = replace(trace, events=(replace(first, prompts_sha256="1" * 64), *trace.events[1:]))
    with pytest.raises(TraceError, match="its prompts are small 1111"):
        list(sft(other))
