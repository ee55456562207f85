"""Texts in, and one value for each of them out."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from rlm_local.calls import TypedCalls
from rlm_local.calls.caller import FreeCaller
from rlm_local.calls.room import pieces
from rlm_local.calls.texts import joined
from rlm_local.errors import EngineRefused, EngineUnavailable
from rlm_local.ports import BadCall
from rlm_local.testing import AnsweringEngine
from rlm_local.types import CallForm, CallKind, Completion, JsonValue, Reply, ReplyStop, SubCall, Usage

Answer = Callable[[Completion], "str | Reply | Exception"]
PERSON: JsonValue = {"type": "object", "properties": {"name": {"type": "string"}, "ages": {"type": "array"}}}


def last(completion: Completion) -> str:
    return completion.messages[-1].content


async def call(
    answer: Answer, kind: str, texts: list[str], window_tokens: int = 8_192, **args: JsonValue
) -> list[SubCall]:
    engine = AnsweringEngine(answer, window_tokens=window_tokens)
    typed = TypedCalls(FreeCaller(engine, reply_tokens=64))
    return await typed(texts, CallForm(CallKind(kind), args))


async def test_a_map_answers_each_item_under_the_instruction() -> None:
    def shout(completion: Completion) -> str:
        assert "Instruction: shout" in completion.messages[0].content
        return last(completion).upper()

    made = await call(shout, "map", ["a", "b", "a", ""], instruction="shout")
    assert [one.result for one in made] == ["A", "B", "A", ""]


async def test_an_extraction_returns_values_of_the_schema_and_tells_it_to_the_model() -> None:
    def person(completion: Completion) -> str:
        assert '"name"' in completion.messages[0].content
        assert json.loads(completion.json_schema) == PERSON
        return json.dumps({"name": last(completion)})

    made = await call(person, "extract", ["Ann", "Bob"], schema=PERSON)
    assert [one.result for one in made] == [{"name": "Ann"}, {"name": "Bob"}]


async def test_what_cannot_be_read_is_asked_for_once_more_and_then_reported_in_its_place() -> None:
    tries: dict[str, int] = {}

    def stumbling(completion: Completion) -> str | Exception:
        item = last(completion)
        tries[item] = tries.get(item, 0) + 1
        if item == "never":
            return "no JSON"
        if item == "refused":
            return EngineRefused("the grammar failed")
        return "1" if tries[item] == 2 or item == "fine" else '"one"'

    made = await call(stumbling, "extract", ["fine", "second", "never", "refused"], schema={"type": "integer"})
    assert [one.result for one in made] == [1, 1, None, None]
    assert [bool(one.refused) for one in made] == [False, False, True, True]
    assert "the reply is no JSON" in made[2].refused
    assert "the grammar failed" in made[3].refused
    assert tries == {"fine": 1, "second": 2, "never": 2, "refused": 2}
    assert made[1].usage.completion_tokens == 2  # both tries are booked


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1e999", "no float can hold"),
        (str(2**60), "an integer beyond"),
        ("[" * 100 + "]" * 100, "nested deeper than 24 levels"),
        ("NaN", "no float can hold"),
    ],
)
async def test_a_value_that_no_frame_can_carry_is_a_failure_of_its_item(text: str, why: str) -> None:
    (one,) = await call(lambda _: text, "extract", ["x"], schema=True)
    assert why in one.refused


async def test_a_reply_that_was_cut_is_no_value_but_a_cut_text_says_so() -> None:
    cut = Reply("[1, 2", ReplyStop.CLOSED, Usage(10, 0, 64), closed_text="]")
    (value,) = await call(lambda _: cut, "extract", ["x"], schema={"type": "array"})
    assert "cut after 64 tokens" in value.refused
    (text,) = await call(lambda _: cut, "map", ["x"], instruction="count")
    assert text.result == "[1, 2 ... (cut after 64 tokens; ask for less at once)"


async def test_an_item_beyond_the_window_is_read_in_pieces_that_lose_nothing() -> None:
    item = "\n".join(f"line {number} of the long item" for number in range(2_000))
    read: list[str] = []

    def count(completion: Completion) -> str:
        read.append(last(completion))
        return str(last(completion).count("line "))

    (one,) = await call(count, "map", [item], window_tokens=1_024, instruction="count the lines")
    assert "".join(read) == item
    assert sum(map(int, str(one.result).split("\n"))) == 2_000
    assert all(piece.endswith("\n") for piece in read[:-1])  # cut between lines


async def test_an_item_of_a_megabyte_comes_back_once_and_whole() -> None:
    read: list[str] = []

    def keep(completion: Completion) -> str:
        read.append(last(completion))
        return "x"

    made = await call(keep, "map", ["a", "é" * 500_000, "b"], instruction="read")
    assert len(made) == 3
    assert "".join(read[1:-1]).strip("ab") == "é" * 500_000 or sorted(map(len, read))[-1] < 33_000
    assert sum(map(len, read)) == 500_002


async def test_an_item_beyond_the_window_is_refused_with_numbers_when_asked_so() -> None:
    made = await call(lambda c: "ok", "map", ["x" * 40_000, "y"], instruction="read", long="refuse")
    assert "10,000 tokens (40,000 characters), but one sub-call reads " in made[0].refused
    assert made[1].result == "ok"


async def test_values_of_an_items_pieces_are_joined() -> None:
    assert joined([["a", "b"], ["b", "c"]]) == ["a", "b", "c"]
    assert joined([{"name": "", "ages": [1]}, {"name": "Ann", "ages": [2]}]) == {"name": "Ann", "ages": [1, 2]}
    assert joined([None, "Ann", "Bob"]) == "Ann"
    assert joined([None, None]) is None

    def find(completion: Completion) -> str:
        return json.dumps([word for word in last(completion).split() if word.startswith("N")])

    item = " ".join("N" + str(n // 100) if n % 100 == 0 else "hay" for n in range(3_000))
    (one,) = await call(find, "extract", [item], window_tokens=1_024, schema={"type": "array"})
    assert one.result == [f"N{n}" for n in range(30)]


async def test_a_reduction_joins_by_windowfuls_until_one_is_left() -> None:
    sizes: list[int] = []

    def add(completion: Completion) -> str:
        sizes.append(len(last(completion)))
        return str(sum(map(int, last(completion).split())))

    texts = [str(number) for number in range(1_000)]
    (one,) = await call(add, "reduce", texts, window_tokens=600, instruction="add")
    assert one.result == str(sum(range(1_000)))
    assert len(sizes) > 3
    assert max(sizes) < 4 * 600


async def test_a_reduction_that_fails_anywhere_says_where_it_stopped() -> None:
    (one,) = await call(lambda _: EngineRefused("no"), "reduce", ["a", "b"], instruction="add")
    assert one.refused == "no"


async def test_an_engine_that_is_away_twice_is_our_failure_and_no_value() -> None:
    away = [EngineUnavailable("restarting")]

    def once(completion: Completion) -> str | Exception:
        return away.pop() if away else "ok"

    (one,) = await call(once, "map", ["a"], instruction="read")
    assert one.result == "ok"
    with pytest.raises(EngineUnavailable):
        await call(lambda _: EngineUnavailable("gone"), "map", ["a"], instruction="read")


async def test_a_window_with_no_room_for_an_item_is_told_before_anything_is_read() -> None:
    with pytest.raises(BadCall, match="but the window holds 300"):
        await call(lambda _: "x", "map", ["a"], window_tokens=300, instruction="x" * 900)


async def test_pieces_of_any_text_join_to_it_and_fit() -> None:
    engine = AnsweringEngine(lambda _: "")
    for text in ("", "a", "word " * 500, "x" * 1_000, "é\n\n" * 300, "." * 99):
        parts = await pieces(engine, text, 16)
        assert "".join(parts) == text
        assert all([await engine.count_tokens(part) <= 16 for part in parts])
