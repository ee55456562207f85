import dataclasses
import json
import math
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_local.events import (
    Abandoned,
    DocumentInfo,
    Event,
    ItemReply,
    ItemsReplied,
    NodeEnded,
    NodeStarted,
    PageDone,
    Replied,
    Routed,
    RunEnded,
    RunResumed,
    RunStarted,
    Spent,
    SubCallDone,
    TokensCounted,
    TurnStarted,
    TurnTaken,
    TurnWritten,
    Validated,
)
from rlm_local.limits import MIB, Limits
from rlm_local.trace.codec import DecodeError, decode_event, encode_event
from rlm_local.types import (
    Answer,
    CallKind,
    Cell,
    CellResult,
    CellStatus,
    Citation,
    DocumentCoverage,
    EngineInfo,
    Failure,
    Final,
    FinalVar,
    GrammarMode,
    Malformed,
    Page,
    Reply,
    ReplyStop,
    Route,
    Sampling,
    Span,
    StopReason,
    Stretch,
    SubCall,
    Turn,
    Usage,
)

TEXT = st.text(max_size=12)
COUNT = st.integers(0, 10**12)
SECONDS = st.floats(0, 10**6)
KEYS = st.one_of(TEXT, st.sampled_from(["$float", "$$float", "$", "type", "event"]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)


def tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=3).map(tuple)


USAGE = st.builds(Usage, COUNT, COUNT, COUNT)
SUBCALL = st.builds(SubCall, TEXT, TEXT, USAGE, TEXT, st.booleans(), JSON, TEXT)
FAILURE = st.builds(Failure, COUNT, TEXT)
PAGE = st.builds(Page, st.sampled_from(CallKind), JSON, tuples(TEXT), tuples(JSON), tuples(FAILURE), USAGE)
SPENT = st.builds(Spent, COUNT, USAGE, COUNT)
FINAL = st.builds(Final, JSON)
ACTION = st.one_of(st.builds(Cell, TEXT), FINAL, st.builds(FinalVar, TEXT), st.builds(Malformed, TEXT))
RESULT = st.builds(
    CellResult,
    status=st.sampled_from(CellStatus),
    stdout=TEXT,
    stdout_tail=TEXT,
    truncated_bytes=COUNT,
    error=TEXT,
    spans=tuples(st.builds(Span, COUNT, COUNT, COUNT)),
    subcalls=tuples(SUBCALL),
    pages=tuples(PAGE),
    facts=JSON,
    final=st.none() | FINAL,
    elapsed_s=SECONDS,
)
STRETCHES = tuples(st.builds(Stretch, COUNT, COUNT))
ANSWER = st.builds(
    Answer,
    value=JSON,
    stop=st.sampled_from(StopReason),
    confirmed=st.booleans(),
    reason=TEXT,
    citations=tuples(st.builds(Citation, TEXT, COUNT, COUNT, COUNT, TEXT)),
    usage=USAGE,
    subcalls=COUNT,
    turns=COUNT,
    wall_s=SECONDS,
    coverage=tuples(st.builds(DocumentCoverage, TEXT, COUNT, STRETCHES, STRETCHES, STRETCHES, STRETCHES)),
)
LIMITS = st.builds(
    Limits, max_turns=st.integers(2, 99), wall_s=st.floats(0.1, 10**6), cell_memory_bytes=st.just(64 * MIB)
)
MODE = st.sampled_from(GrammarMode)
REPLY = st.builds(Reply, TEXT, st.sampled_from(ReplyStop), USAGE, TEXT, tuples(SECONDS))
EVENT = st.one_of(
    st.builds(
        RunStarted,
        TEXT,
        TEXT,
        TEXT,
        TEXT,
        TEXT,
        st.builds(Sampling, SECONDS, SECONDS, COUNT, COUNT),
        tuples(st.builds(DocumentInfo, TEXT, COUNT, TEXT, TEXT)),
        LIMITS,
        MODE,
        JSON,
        SECONDS,
        st.builds(EngineInfo, TEXT, COUNT, TEXT, st.booleans()),
        TEXT,
    ),
    st.builds(Routed, st.sampled_from(Route), TEXT),
    st.builds(RunResumed, TEXT),
    st.builds(Replied, TEXT, COUNT, TEXT, REPLY),
    st.builds(ItemsReplied, TEXT, COUNT, tuples(st.builds(ItemReply, TEXT, REPLY))),
    st.builds(
        NodeStarted,
        TEXT,
        TEXT,
        COUNT,
        TEXT,
        tuples(st.builds(DocumentInfo, TEXT, COUNT, TEXT, TEXT)),
        tuples(st.builds(Span, COUNT, COUNT, COUNT)),
        LIMITS,
    ),
    st.builds(NodeEnded, TEXT, ANSWER),
    st.builds(Abandoned, TEXT, COUNT, USAGE),
    st.builds(Validated, TEXT, COUNT, TEXT),
    st.builds(TokensCounted, TEXT, COUNT),
    st.builds(TurnStarted, TEXT, COUNT, TEXT),
    st.builds(TurnWritten, TEXT, COUNT, TEXT),
    st.builds(SubCallDone, TEXT, COUNT, COUNT, SUBCALL),
    st.builds(PageDone, TEXT, COUNT, COUNT, PAGE, SPENT),
    st.builds(
        TurnTaken,
        TEXT,
        COUNT,
        st.builds(Turn, TEXT, ACTION, USAGE, st.none() | RESULT, TEXT),
        TEXT,
        SPENT,
        SECONDS,
    ),
    st.builds(RunEnded, ANSWER),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENT)
def test_every_event_comes_back_from_json_as_it_was(event: Event) -> None:
    text = json.dumps(encode_event(event), allow_nan=False)
    assert decode_event(json.loads(text)) == event


@pytest.mark.parametrize("cls", get_args(Event))
def test_no_field_of_an_event_hides_one_of_the_line(cls: type) -> None:
    assert not {"v", "seq", "t", "at", "event"} & {field.name for field in dataclasses.fields(cls)}


def test_a_number_that_json_does_not_know_comes_back_too() -> None:
    for value in (math.inf, -math.inf, [math.inf, {"$float": "inf"}]):
        event = RunEnded(Answer(value, StopReason.FINAL, confirmed=True))
        assert decode_event(json.loads(json.dumps(encode_event(event), allow_nan=False))) == event
    encoded = encode_event(RunEnded(Answer(math.nan, StopReason.FINAL, confirmed=True)))
    decoded = decode_event(encoded)
    assert isinstance(decoded, RunEnded)
    assert isinstance(decoded.answer.value, float)
    assert math.isnan(decoded.answer.value)


def test_an_event_reads_as_its_name_and_its_fields() -> None:
    event = TurnTaken("0", 3, Turn("x", FinalVar("count"), Usage(5, 4, 1)), "")
    assert encode_event(event) == {
        "event": "turn_taken",
        "node": "0",
        "number": 3,
        "turn": {
            "text": "x",
            "action": {"type": "final_var", "name": "count"},
            "usage": {"prompt_tokens": 5, "cached_tokens": 4, "completion_tokens": 1},
            "result": None,
            "closed_text": "",
        },
        "observation": "",
        "spent": {
            "subcalls": 0,
            "usage": {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0},
            "remembered": 0,
        },
        "elapsed_s": 0.0,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event": "turn_dreamt"}, "event is 'turn_dreamt', but must be one of run_started, "),
        ({"event": None}, "event is None"),
        ({"number": "1"}, "TurnWritten.number: '1' is not of type int"),
        ({"number": True}, "TurnWritten.number: True is not of type int"),
        ({"text": None}, "TurnWritten.text: None is not of type str"),
        ({"more": 1}, "TurnWritten needs node, number, text; found node, number, text, more"),
    ],
)
def test_an_object_that_is_no_event_is_refused_with_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_event({"event": "turn_written", "node": "0", "number": 1, "text": "x"} | change)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["answer", "stop"], "bored", "RunEnded.answer: Answer.stop: 'bored' is none of final, "),
        (["answer", "wall_s"], "1", "RunEnded.answer: Answer.wall_s: '1' is not a number"),
        (["answer", "turns"], -(1 << 53) - 1, "RunEnded.answer: Answer.turns: a number is over 9007199254740992"),
        (["answer", "citations"], {}, "RunEnded.answer: Answer.citations: {} is not a list"),
        (
            ["answer", "value"],
            {"$float": "1"},
            "RunEnded.answer: Answer.value: $float is '1', but must be nan, inf or -inf",
        ),
        (["answer"], None, "RunEnded.answer: Answer needs value, "),
    ],
)
def test_a_damaged_field_is_named_by_its_way(path: list[str], value: object, message: str) -> None:
    obj: Any = encode_event(RunEnded(Answer(1, StopReason.FINAL, confirmed=True)))
    inner = obj
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(DecodeError) as caught:
        decode_event(obj)
    assert str(caught.value).startswith(message)


def test_every_kind_of_event_is_covered_by_the_strategies_here() -> None:
    built = {
        RunStarted,
        Routed,
        RunResumed,
        Replied,
        ItemsReplied,
        Abandoned,
        TokensCounted,
        NodeStarted,
        NodeEnded,
        TurnStarted,
        TurnWritten,
        SubCallDone,
        PageDone,
        TurnTaken,
        Validated,
        RunEnded,
    }
    assert built == set(get_args(Event))
