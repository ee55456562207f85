"""Every protocol from prompt to answer: a scripted model in a real jail, each reply held to its turn's grammar."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm_local.cards import DEFAULT_MODEL, find_card, load_cards
from rlm_local.events import TurnStarted
from rlm_local.grammar import refusal
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.runtime import Runtime
from rlm_local.testing import KeptEvents, ScriptedEngine
from rlm_local.types import Answer, AnswerProtocol, Document, GrammarMode, JsonValue, Request, StopReason

pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")
pytestmark = pytest.mark.jail

LEASE = Document("lease.txt", "The notice period is ninety days.\n")
LOOK = '```repl\nterm = "ninety days"\nprint(search("notice period", show=False)[0])\n```'
LOOK_AGAIN = '```repl\nprint(len(documents), "ninety days")\n```'
ANSWERS = {  # a literal, and a variable of an earlier cell
    AnswerProtocol.FINAL: ('FINAL("ninety days")', "FINAL_VAR(term)"),
    AnswerProtocol.PLAIN_FINAL: ("FINAL(ninety days)", "FINAL_VAR(term)"),
    AnswerProtocol.ANSWER: (
        '```repl\nanswer["content"] = "ninety days"\nanswer["ready"] = True\n```',
        '```repl\nanswer["content"] = term\nanswer["ready"] = True\n```',
    ),
    AnswerProtocol.FINAL_CALL: ('```repl\nFINAL("ninety days")\n```', '```repl\nFINAL_VAR("term")\n```'),
    AnswerProtocol.SUBMIT: ('```repl\nSUBMIT("ninety days")\n```', "```repl\nSUBMIT(answer=term)\n```"),
}
MODES = [GrammarMode.SKELETON, GrammarMode.PYTHON]
STRING: JsonValue = {"type": "string"}


async def ask(
    protocol: AnswerProtocol,
    replies: list[str],
    mode: GrammarMode,
    *,
    schema: JsonValue = None,
    recorder: KeptEvents | None = None,
    **limits: int,
) -> tuple[Answer, ScriptedEngine]:
    """Run a script; each of its replies must be a sentence of the grammar that the engine was given for it."""
    card = replace(find_card(DEFAULT_MODEL, load_cards()), protocol=protocol)
    engine = ScriptedEngine(replies, window_tokens=32_000)
    runtime = Runtime(card, load_profile(card.profile, card.protocol), engine, "0" * 64)
    bounds = Limits(max_tokens=1_000_000, wall_s=120.0, **limits)
    request = Request("How long is the notice period?", (LEASE,), bounds, mode, schema)
    answer = await runtime.ask(request, recorder or KeptEvents())
    for completion, reply in zip(engine.completions, replies, strict=True):
        assert refusal(completion.grammar or "", reply.encode()) is None, reply
    return answer, engine


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", AnswerProtocol)
async def test_a_literal_that_was_printed_is_confirmed_and_so_is_a_variable(
    nsjail: None, protocol: AnswerProtocol, mode: GrammarMode
) -> None:
    schema = None if protocol is AnswerProtocol.PLAIN_FINAL else STRING  # bare text has no type
    for said in ANSWERS[protocol]:
        answer, _ = await ask(protocol, [LOOK, said], mode, schema=schema)
        assert (answer.value, answer.stop, answer.confirmed) == ("ninety days", StopReason.FINAL, True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", AnswerProtocol)
async def test_a_turn_that_may_only_answer_does(nsjail: None, protocol: AnswerProtocol, mode: GrammarMode) -> None:
    for said in ANSWERS[protocol]:
        recorder = KeptEvents()
        answer, engine = await ask(protocol, [LOOK, said], mode, recorder=recorder, max_turns=2)
        assert [one.state for one in recorder.events if isinstance(one, TurnStarted)] == ["first", "last"]
        assert (answer.value, answer.stop) == ("ninety days", StopReason.TURN_LIMIT)
        assert refusal(engine.completions[-1].grammar or "", LOOK.encode()) is not None


@pytest.mark.parametrize("protocol", [one for one in AnswerProtocol if one.is_in_code])
async def test_an_answer_from_code_that_was_held_back_is_not_given_again_by_the_next_cell(
    nsjail: None, protocol: AnswerProtocol
) -> None:
    said, _ = ANSWERS[protocol]
    answer, engine = await ask(protocol, [said, LOOK_AGAIN, said], GrammarMode.PYTHON)
    assert "before you saw any output" in engine.completions[1].messages[-1].content
    assert (answer.value, answer.confirmed, answer.turns) == ("ninety days", True, 3)


@pytest.mark.parametrize("protocol", AnswerProtocol)
async def test_a_literal_that_nothing_printed_is_questioned_once(nsjail: None, protocol: AnswerProtocol) -> None:
    said = ANSWERS[protocol][0].replace("ninety days", "sixty weeks")
    answer, engine = await ask(protocol, [LOOK, said, said], GrammarMode.PYTHON)
    assert "Nothing that was printed says sixty weeks" in engine.completions[2].messages[-1].content
    assert (answer.value, answer.confirmed) == ("sixty weeks", False)
